"""What do lukemelas/EfficientNet-PyTorch, and efficientnet-lite-pytorch, call the layers?"""

import re
from collections.abc import Collection

from effnet_tf.weights import names

OWNER = "EfficientNet-PyTorch"
FAMILIES = ("tf",)
ANCHOR = re.compile(r"(|.*?\.)(?:_conv_stem|_blocks\.\d+\._\w+_conv)\.weight$")
_BLOCK = re.compile(r"_blocks\.(\d+)\.(.+)$")
_OUTSIDE = {
    "_conv_stem": "stem_conv",
    "_bn0": "stem_bn",
    "_conv_head": "top_conv",
    "_bn1": "top_bn",
    "_fc": "predictions",
}
_INSIDE = {
    "_expand_conv": "expand_conv",
    "_bn0": "expand_bn",
    "_depthwise_conv": "dwconv",
    "_bn1": "bn",
    "_se_reduce": "se/reduce",
    "_se_expand": "se/expand",
    "_project_conv": "project_conv",
    "_bn2": "project_bn",
}


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `_blocks.3._depthwise_conv`, whose blocks are counted throughout."""
    return {layer: names.split_counted(layer, _BLOCK, _OUTSIDE, _INSIDE) for layer in layers}
