"""How does the description of a convolution become a Keras layer?

Sources, also for the other files of this folder:
  builder  the original code, tensorflow/tpu models/official/efficientnet:
           `efficientnet_builder.py`, `efficientnet_model.py`, `utils.py`.
"""

import math

import keras

from effnet_tf.layers import (
    backend,  # noqa: F401  refuses other backends of Keras
    first_kernels,
)
from effnet_tf.layers.cond_conv import mixed_layer
from effnet_tf.layers.shapes import Shape
from effnet_tf.variants import Convolution


def conv_initializer() -> keras.initializers.Initializer:
    """Untruncated normal of variance 2 / fan-out (builder: conv_kernel_initializer).

    keras.applications truncates it. For a depthwise kernel (k, k, C, 1) the fan-out is
    k * k, as in the original.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def dense_initializer() -> keras.initializers.Initializer:
    """Uniform in +-1/sqrt(classes) (builder: dense_kernel_initializer)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")


def precise() -> str:
    """Returns the dtype for what half precision would harm: pixels, means over maps, scores.

    float32 under every dtype policy, but float64 under that.
    """
    if keras.config.dtype_policy().compute_dtype == "float64":
        return "float64"
    return "float32"


def zero_padding(
    convolution: Convolution, name: str, dtype: str | keras.DTypePolicy | None = None
) -> keras.layers.ZeroPadding2D:
    """Returns the layer that puts the zeros around a map that a convolution wants there."""
    return keras.layers.ZeroPadding2D(
        (convolution.explicit_padding,) * 2, data_format="channels_last", name=name, dtype=dtype
    )


def conv_layer(
    convolution: Convolution,
    input_shape: Shape,
    dtype: str | keras.DTypePolicy | None = None,
    *,
    name: str | None = None,
    padding: str | None = None,
    activation: str | None = None,
) -> keras.layers.Layer:
    """Returns the Keras layer of a full or depthwise convolution, which is built.

    Its batch norm is a layer of its own, and so are zeros that the description wants around
    its input (`Convolution.explicit_padding`).

    Args:
        convolution: what it is.
        input_shape: (N, H, W, C), of which only C must be known.
        dtype: dtype policy of the layer; by default Keras' global one.
        name: of the layer; by default the last part of the convolution's.
        padding: "valid" where its input has been padded already, else "same"; by default
            what the description says.
        activation: that the layer itself applies; None where it is a layer of its own.

    Returns:
        A `Conv2D` or `DepthwiseConv2D`; of a convolution with experts a `CondConv` or
        `DepthwiseCondConv`, which is called on their weights, too.
    """
    if padding is None:
        padding = "valid" if any(convolution.explicit_padding) else "same"
    shared = dict(
        padding=padding,
        dilation_rate=convolution.dilation_rate,
        activation=activation,
        use_bias=convolution.use_bias,
        name=name or convolution.name.rpartition("/")[2],
        dtype=dtype,
    )
    if convolution.experts:
        layer = mixed_layer(convolution, **shared)
        layer.build(input_shape)
        return layer
    shared |= dict(
        kernel_size=convolution.kernel_size,
        strides=convolution.strides,
        data_format="channels_last",
    )
    if convolution.kind == "depthwise":
        layer = keras.layers.DepthwiseConv2D(depthwise_initializer=conv_initializer(), **shared)
        _build(layer, input_shape, "depthwise_initializer", convolution)
    else:
        filters = convolution.filters
        layer = keras.layers.Conv2D(filters, kernel_initializer=conv_initializer(), **shared)
        _build(layer, input_shape, "kernel_initializer", convolution)
    return layer


def _build(layer, input_shape, attribute, convolution):
    """Builds a layer whose initializer says what is drawn, and by which seed, but does not draw."""
    initializer = getattr(layer, attribute)
    fan_out = math.prod(convolution.kernel_shape) / convolution.input_filters
    deviation = math.sqrt(initializer.scale / fan_out)
    setattr(layer, attribute, first_kernels.normal(deviation, initializer.seed))
    layer.build(input_shape)
    setattr(layer, attribute, initializer)  # files and clones have Keras' own
