"""Which files can hold kernels that are mixed for each image, and in which form?

CondConv's kernels are no constants of a file. Formats of 8 bits and runtimes that split a batch
want constants.
"""

import keras

from effnet_tf.errors import InputError
from effnet_tf.export.tflite.options import Options
from effnet_tf.layers import DepthwiseCondConv
from effnet_tf.layers.cond_conv import MixedConvolution

TFLITE = ("none", "float16")  # kinds of files whose kernels may be computed


def has_experts(model: keras.Model) -> bool:
    """Whether a model mixes kernels for each image, anywhere in it."""
    return any(isinstance(layer, MixedConvolution) for layer in model._flatten_layers())


def check_tflite(model: keras.Model, options: Options) -> None:
    """Raises InputError where kernels that are mixed for each image cannot be in a TFLite file."""
    if has_experts(model) and options.quantize not in TFLITE:
        raise InputError(
            f"quantize '{options.quantize}' stores kernels of 8 bits, and the model "
            f"'{model.name}' mixes its own for each image (CondConv): use quantize 'none' or "
            "'float16'."
        )


def mix_outputs(folded: keras.Model) -> None:
    """Has the depthwise convolutions of a folded model mix outputs of constant kernels.

    By one kernel per image they need as many groups as images have channels, and files that take
    any number of images cannot say how many.
    """
    for layer in folded._flatten_layers():
        if isinstance(layer, DepthwiseCondConv):
            layer.mixes_outputs = True
