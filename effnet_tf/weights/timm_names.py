"""What does timm call the layers of its `tf_efficientnet_*`?

timm's models without `tf_` look alike but compute something else (other padding and epsilon):
their weights are not for this network.
"""

import re
from collections.abc import Collection

from effnet_tf.weights import names

OWNER = "timm"
ANCHOR = re.compile(r"(|.*?\.)(?:conv_stem|blocks\.\d+\.\d+\.conv_\w+)\.weight$")
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)$")
_OUTSIDE = {
    "conv_stem": "stem_conv",
    "bn1": "stem_bn",
    "conv_head": "top_conv",
    "bn2": "top_bn",
    "classifier": "predictions",
}


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `blocks.1.0.conv_pwl`."""
    others: dict[tuple, set[str]] = {}  # of each block: what a layer is depends on them
    for match in filter(None, map(_BLOCK.match, layers)):
        others.setdefault(match.group(1, 2), set()).add(match[3])
    return {layer: _split(layer, others) for layer in layers}


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
    return {
        "conv_dw": "dwconv",
        "conv_exp": "expand_conv",
        "conv_pwl": "project_conv",
        "conv_pw": "expand_conv",
        "se.conv_reduce": "se/reduce",
        "se.conv_expand": "se/expand",
    }.get(layer, layer)
