"""What does Hugging Face's transformers call the layers of its EfficientNet?

It pads strided convolutions for the variant's own image size (modeling_efficientnet.py:
correct_pad); TensorFlow, and this network, for the size of each image. Both compute the same at
that size, and can differ at others.
"""

import re
from collections.abc import Collection

from effnet_tf.weights import names

OWNER = "Hugging Face transformers"
FAMILIES = ("tf",)
ANCHOR = re.compile(
    r"(|.*?\.)(?:efficientnet\.)?(?:embeddings\.convolution|encoder\.blocks\.\d+\..*_conv)\.weight$"
)
_BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.(.+)$")
_OUTSIDE = {
    "embeddings.convolution": "stem_conv",
    "embeddings.batchnorm": "stem_bn",
    "encoder.top_conv": "top_conv",
    "encoder.top_bn": "top_bn",
    "classifier": "predictions",
}
_INSIDE = {
    "expansion.expand_conv": "expand_conv",
    "expansion.expand_bn": "expand_bn",
    "depthwise_conv.depthwise_conv": "dwconv",
    "depthwise_conv.depthwise_norm": "bn",
    "squeeze_excite.reduce": "se/reduce",
    "squeeze_excite.expand": "se/expand",
    "projection.project_conv": "project_conv",
    "projection.project_bn": "project_bn",
}


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `efficientnet.encoder.blocks.3.projection.project_conv`.

    The classifier stands beside `efficientnet`; a file of the bare network begins without it.
    """
    found = {}
    for layer in layers:
        name = layer.removeprefix("efficientnet.")
        found[layer] = names.split_counted(name, _BLOCK, _OUTSIDE, _INSIDE)
    return found
