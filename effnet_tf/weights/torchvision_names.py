"""What does torchvision call the layers of its EfficientNet?

Layers have numbers only: `features.2.0.block.1.0` is in the first block of stage 2.
"""

import re
from collections.abc import Collection

from effnet_tf.weights import names

OWNER = "torchvision"
FAMILIES = ("torchvision",)
# Squeeze-and-excite in the first block: EfficientNetV2 has none there.
ANCHOR = re.compile(r"(|.*?\.)features\.1\.0\.block\.1\.fc1\.weight$")
OTHERS = re.compile(r"(?:.*\.)?features\.1\.0\.block\.0\.0\.weight$")
_BLOCK = re.compile(r"features\.(\d+)\.(\d+)\.block\.(.+)$")
_OUTSIDE = re.compile(r"features\.(\d+)\.([01])$")
# The parts of a block, in order; where it does not expand, from the second on.
_PARTS = (
    {"0": "expand_conv", "1": "expand_bn"},
    {"0": "dwconv", "1": "bn"},
    {"fc1": "se/reduce", "fc2": "se/expand"},
    {"0": "project_conv", "1": "project_bn"},
)


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `features.2.0.block.1.0`."""
    expanding = {
        match.group(1, 2)
        for match in filter(None, map(_BLOCK.match, layers))
        if match[3].startswith("3.")
    }
    return {layer: _split(layer, expanding) for layer in layers}


def _split(layer, expanding):
    match = _BLOCK.match(layer)
    if match is None:
        return None, _outside(layer)
    stage, index, inside = match.groups()
    part, _, own = inside.partition(".")
    number = int(part)
    if (stage, index) not in expanding:
        number += 1
    if number < len(_PARTS):
        inside = _PARTS[number].get(own, inside)
    return (int(stage), int(index)), inside


def _outside(layer):
    match = _OUTSIDE.match(layer)
    if match is None:
        return {"classifier.1": "predictions"}.get(layer, layer)
    place = "top"
    if match[1] == "0":
        place = "stem"
    return f"{place}_{('conv', 'bn')[int(match[2])]}"
