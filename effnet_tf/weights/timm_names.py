"""What does timm call the layers of its networks, and of which family is one by its name?

`tf_efficientnet_b0` and `efficientnet_b0` have the same layers, and compute something else. So do
`tf_mobilenetv3_large_100` and `mobilenetv3_large_100`. Its ResNets have torchvision's names
(`resnet_names.py`).
"""

import re
from collections.abc import Collection

from effnet_tf.errors import InputError, shown
from effnet_tf.weights import names

OWNER = "timm"
FAMILIES = ("tf", "timm")  # where nothing says which
ANCHOR = re.compile(r"(|.*?\.)(?:conv_stem|blocks\.\d+\.\d+\.conv_\w+)\.weight$")
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)$")
_OUTSIDE = {
    "conv_stem": "stem_conv",
    "bn1": "stem_bn",
    "conv_head": "top_conv",
    "bn2": "top_bn",
    "classifier": "predictions",
}
# "hf_hub:timm/tf_efficientnet_b0.ns_jft_in1k", before 2023 "tf_efficientnet_b0_ns"
_SAME = r"(?:b[0-8]|l2|lite[0-4]|es|em|el)"
_V2 = r"(?:b[0-3]|s|m|l|xl)"
_CC = r"efficientnet_cc_(?:b0_4e|b0_8e|b1_8e)"  # b1_8e is condconv-b0-8e-depth
_V3 = r"mobilenetv3_(?:large|small)_100"
# What networks of ours are called: the families that one can be of. MobileNets of other widths,
# such as mobilenetv2_140, are rows of the user's. Before 2023, "gluon_resnet50_v1b" and others.
_OURS = {
    rf"tf_efficientnet_{_SAME}(?:_\w+)?|tf_{_V3}": ("tf",),
    rf"tf_efficientnetv2_{_V2}(?:_\w+)?|tf_{_CC}": ("tf",),
    rf"efficientnet_{_SAME}|{_CC}|mobilenetv[12]_\d+|{_V3}|efficientnetv2_{_V2}": ("timm",),
    r"(?:(?:gluon|ssl|swsl|tv)_)?resnet50(?:_v1b)?": ("timm", "torchvision"),
}
# What others are called that can have the same shapes: resnetblur50, mobilenetv3_rw.
_OTHERS = re.compile(r"(?:tf_)?(?:efficientnet(?:v2)?_|mobilenetv\d_)|\w*res(?:net|next|nest)\w*\d")


def families(path: str, architecture: object) -> tuple[str, ...]:
    """Returns the families that weights can be of; () if nothing says it.

    Args:
        path: of their file, for messages.
        architecture: what says of them which of timm's networks they are of, if anything does.

    Raises:
        InputError: they are of a network that is none of ours.
    """
    name = re.split("[/:]", str(architecture or ""))[-1].partition(".")[0]
    for ours, found in _OURS.items():
        if re.fullmatch(ours, name):
            return found
    if _OTHERS.match(name):
        raise InputError(
            f"'{path}' holds weights of timm's {shown(name)}, which is another network than "
            "effnet_tf has."
        )
    return ()


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `blocks.1.0.conv_pwl`.

    The last block of MobileNetV3 is its head, and `conv_head` the dense layer after the mean.
    """
    others: dict[tuple, set[str]] = {}  # of each block: what a layer is depends on them
    for match in filter(None, map(_BLOCK.match, layers)):
        others.setdefault(match.group(1, 2), set()).add(match[3])
    found = {layer: _split(layer, others) for layer in layers}
    last = max(others, key=lambda place: (int(place[0]), int(place[1])), default=None)
    if last is not None and "conv" in others[last]:
        place = f"blocks.{last[0]}.{last[1]}"
        ours = {
            f"{place}.conv": "top_conv",
            f"{place}.bn1": "top_bn",
            "conv_head": "top_projection",
        }
        found |= {layer: (None, ours[layer]) for layer in found.keys() & ours}
    return found


def _split(layer, others):
    match = _BLOCK.match(layer)
    if match is None:
        return None, _OUTSIDE.get(layer, layer)
    stage, index, inside = match.groups()
    return (int(stage) + 1, int(index)), _inside(inside, others[stage, index])


def _inside(layer, others):
    """Our name of a layer in a block that has these layers."""
    expands = "conv_pwl" in others
    if re.fullmatch(r"bn\d", layer):
        found = names.batch_norms(expands, "conv_dw" in others)
        number = int(layer[2:]) - 1
        return found[number] if number < len(found) else layer
    if layer == "conv_pw" and not expands:
        return "project_conv"
    if layer == "conv":  # EfficientNetV2's first stage
        return "project_conv"
    return {
        "conv_dw": "dwconv",
        "conv_exp": "expand_conv",
        "conv_pwl": "project_conv",
        "conv_pw": "expand_conv",
        "routing_fn": "routing",
        "se.conv_reduce": "se/reduce",
        "se.conv_expand": "se/expand",
    }.get(layer, layer)
