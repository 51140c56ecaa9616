"""What does keras.applications call the layers of MobileNets and ResNet-50, and what differs?

Sources: keras/src/applications/mobilenet.py, mobilenet_v2.py, mobilenet_v3.py and resnet.py, of
Keras 3.15; those of Keras 2 have the same names. Two things are otherwise there than here: dense
layers of a MobileNet are 1x1 convolutions on one pixel, and ResNet takes BGR.
"""

import re
from collections.abc import Mapping

import numpy as np

from effnet_tf.weights import names

_OUTSIDE = {
    # MobileNetV1
    "conv1": "stem_conv",
    "conv1_bn": "stem_bn",  # ResNet's, too
    "conv_preds": "predictions",
    # MobileNetV2
    "Conv1": "stem_conv",
    "bn_Conv1": "stem_bn",
    "Conv_1": "top_conv",
    "Conv_1_bn": "top_bn",
    # MobileNetV3
    "conv": "stem_conv",
    "conv_bn": "stem_bn",
    "conv_1": "top_conv",
    "conv_1_bn": "top_bn",
    "conv_2": "top_projection",
    "logits": "predictions",
    # ResNet
    "conv1_conv": "stem_conv",
}
# Matches a layer of a block: (its number, what it is); where a number is missing, it is the first.
_V1 = re.compile(r"conv_(dw|pw)_(\d+)(_bn)?$")
_V2_AND_V3 = re.compile(r"(?:block|expanded_conv)_(?:(\d+)_)?(\w+)$")
_RESNET = re.compile(r"conv(\d+)_block(\d+)_(\d)_(conv|bn)$")
_INSIDE_V1 = {"dw": "dwconv", "dw_bn": "bn", "pw": "project_conv", "pw_bn": "project_bn"}
_INSIDE = {
    "expand": "expand_conv",
    "expand_bn": "expand_bn",
    "depthwise": "dwconv",
    "depthwise_bn": "bn",
    "squeeze_excite_conv": "se/reduce",
    "squeeze_excite_conv_1": "se/expand",
    "project": "project_conv",
    "project_bn": "project_bn",
}
_INSIDE_RESNET = ("shortcut", "reduce", "middle", "project")
_ONE_PIXEL = ("predictions/kernel", "top_projection/kernel")


def split(paths: list[str]) -> names.Split | None:
    """Splits the paths of a file's variables; None unless it holds one of these networks.

    Args:
        paths: such as "conv_dw_1/kernel", "mobilenetv2_1.00_224/block_1_expand_BN/gamma" or
            "conv2_block1_1_conv/conv2_block1_1_conv/kernel:0".
    """
    blocks = {path: _block(_layer(path)) for path in paths}
    if not any(blocks.values()):
        return None
    found = {}
    for path, inside in blocks.items():
        leaf = path.rpartition("/")[2].split(":")[0].replace("depthwise_kernel", "kernel")
        layer = _OUTSIDE.get(_layer(path))
        if inside is not None:
            found[path] = inside[0], f"{inside[1]}/{leaf}"
        elif layer is not None:
            found[path] = None, f"{layer}/{leaf}"
        else:
            found[path] = None, path
            if _layer(path) == "predictions":
                found[path] = None, f"predictions/{leaf}"
    return found


def ours(divided: names.Split, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file as they are in our network.

    Args:
        divided: the result of `split`.
        values: path -> array.
    """
    is_resnet = any(inside.startswith("reduce_conv/") for _, inside in divided.values())
    found = dict(values)
    for path, (_, inside) in divided.items():
        value = values[path]
        if inside in _ONE_PIXEL and value.ndim == 4:
            found[path] = value[0, 0]
        elif inside == "stem_conv/kernel" and is_resnet and value.shape[2] == 3:
            found[path] = value[:, :, ::-1]  # (k, k, BGR, F)
    return found


def _layer(path):
    """The name of the layer of a variable."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _block(layer):
    """Returns (block, name inside it) of a layer of a block, as in `names.Split`; else None."""
    match = _V1.match(layer)
    if match:
        return int(match[2]) - 1, _INSIDE_V1[match[1] + (match[3] or "")]
    match = _RESNET.match(layer)
    if match:
        place = int(match[1]) - 1, int(match[2]) - 1
        return place, f"{_INSIDE_RESNET[int(match[3])]}_{match[4]}"
    match = _V2_AND_V3.match(layer)
    inside = match and _INSIDE.get(match[2].replace("_BN", "_bn"))
    if inside:
        return int(match[1] or 0), inside
    return None
