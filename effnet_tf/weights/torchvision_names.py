"""What does torchvision call the layers of its EfficientNet, MobileNetV2 and MobileNetV3?

Layers have numbers only: `features.2.0.block.1.0` is in the first block of stage 2 of an
EfficientNet, `features.3.conv.0.0` in the third block of a MobileNet, whose stages have none. Its
ResNet has names (`resnet_names.py`).
"""

import re
from collections.abc import Collection

from effnet_tf.weights import names

OWNER = "torchvision"
FAMILIES = ("torchvision",)
# EfficientNet's by the squeeze-and-excite in its first block: EfficientNetV2 has none there.
ANCHOR = re.compile(r"(|.*?\.)features\.1\.(?:0\.block\.1\.fc1|conv\.0\.0|block\.0\.0)\.weight$")
OTHERS = re.compile(r"(?:.*\.)?features\.1\.0\.block\.0\.0\.weight$")
_BLOCK = re.compile(r"features\.(\d+)(?:\.(\d+))?\.(?:block|conv)\.(.+)$")
_OUTSIDE = re.compile(r"features\.(\d+)\.([01])$")
_NUMBERED = re.compile(r"\d+(?:\.\d+)?$")
# What has a number in a block, in order; where nothing expands, from the third on.
_ORDER = ("expand_conv", "expand_bn", "dwconv", "bn", "project_conv", "project_bn")
_SQUEEZE = {"fc1": "se/reduce", "fc2": "se/expand"}


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `features.2.0.block.1.0` and `features.3.conv.2`."""
    inside: dict[tuple, list[str]] = {}  # of each block: its layers
    for match in filter(None, map(_BLOCK.match, layers)):
        inside.setdefault(match.group(1, 2), []).append(match[3])
    ours = {block: _inside(theirs) for block, theirs in inside.items()}
    return {layer: _split(layer, ours) or (None, _outside(layer, layers)) for layer in layers}


def _split(layer, ours):
    match = _BLOCK.match(layer)
    if match is None:
        return None
    first, index, inside = match.groups()
    block = int(first) - 1  # the stem is the first of all
    if index is not None:
        block = int(first), int(index)
    return block, ours[first, index][inside]


def _inside(theirs):
    """Returns {name in a block: ours} of the layers of one."""
    found = {layer: _SQUEEZE.get(layer.partition(".")[2], layer) for layer in theirs}
    numbered = sorted(filter(_NUMBERED.match, theirs), key=_numbers)
    if len(numbered) in (4, 6):
        found |= zip(numbered, _ORDER[-len(numbered) :])
    return found


def _numbers(layer):
    return [int(number) for number in layer.split(".")]


def _outside(layer, layers):
    match = _OUTSIDE.match(layer)
    if match is not None:
        place = "top"
        if match[1] == "0":
            place = "stem"
        return f"{place}_{('conv', 'bn')[int(match[2])]}"
    ours = {"classifier.1": "predictions"}
    if "classifier.3" in layers:  # MobileNetV3, whose dropout is the third
        ours = {"classifier.0": "top_projection", "classifier.3": "predictions"}
    return ours.get(layer, layer)
