"""What do torchvision and timm call the layers of ResNet-50?

Source: torchvision/models/resnet.py; timm's resnet.py has the same names, and computes the same.
"""

import re
from collections.abc import Collection

from effnet_tf.weights import names

OWNER = "torchvision or timm"
FAMILIES = ("timm", "torchvision")
ANCHOR = re.compile(r"(|.*?\.)layer1\.0\.conv3\.weight$")  # smaller ResNets have no third one
_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.(.+)$")
_OUTSIDE = {"conv1": "stem_conv", "bn1": "stem_bn", "fc": "predictions"}
_INSIDE = {
    "conv1": "reduce_conv",
    "bn1": "reduce_bn",
    "conv2": "middle_conv",
    "bn2": "middle_bn",
    "conv3": "project_conv",
    "bn3": "project_bn",
    "downsample.0": "shortcut_conv",
    "downsample.1": "shortcut_bn",
}


def split(layers: Collection[str]) -> names.Split:
    """Splits layers such as `layer2.0.conv1`."""
    return {layer: _split(layer) for layer in layers}


def _split(layer):
    match = _BLOCK.match(layer)
    if match is None:
        return None, _OUTSIDE.get(layer, layer)
    stage, index, inside = match.groups()
    return (int(stage), int(index)), _INSIDE.get(inside, inside)
