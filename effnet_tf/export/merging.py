"""What do a batch norm, a division or a padding become inside of the convolution beside them?"""

from collections.abc import Sequence

import keras
import numpy as np

from effnet_tf.layers import CondConv, DepthwiseCondConv
from effnet_tf.layers.shapes import same_padding

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
MIXED = (CondConv, DepthwiseCondConv)
Padding = tuple[tuple[int, int], tuple[int, int]]  # (top, bottom), (left, right), in pixels


def takes_batch_norm(conv: keras.Operation, batch_norm: keras.Layer) -> bool:
    """Whether an operation is a linear convolution whose channels a batch norm scales."""
    return (
        type(conv) in CONVOLUTIONS + MIXED
        and conv.activation is keras.activations.linear
        and conv.data_format == "channels_last"
        and batch_norm.axis in (-1, 3)
    )


def with_batch_norm(
    conv: keras.Layer, weights: Sequence[np.ndarray], batch_norm: keras.Layer
) -> list[np.ndarray]:
    """Returns kernel and bias of a convolution that is followed by a batch norm.

    Args:
        conv: a `Conv2D` or `DepthwiseConv2D`, or of `MIXED`, all of whose experts are scaled.
        weights: its kernel, and its bias if it has one.
        batch_norm: a built `BatchNormalization` over the last axis.

    Returns:
        [kernel, bias], float32.
    """
    kernel, *bias = weights
    gamma, beta, mean, variance = _affine(batch_norm)
    with np.errstate(invalid="ignore"):  # soundness.py names what comes of a variance below 0
        scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    scale_of_kernel = scale
    if isinstance(conv, keras.layers.DepthwiseConv2D):
        scale_of_kernel = scale.reshape(kernel.shape[2:])
    if isinstance(conv, MIXED):  # rows are kernels, the last side of each are the channels
        kernel = (kernel.reshape(len(kernel), -1, len(scale)) * scale).reshape(kernel.shape)
    else:
        kernel = kernel * scale_of_kernel
    return [kernel.astype("float32"), (beta + (sum(bias) - mean) * scale).astype("float32")]


def _affine(layer):
    """Returns gamma, beta, moving mean and variance of a batch norm, as float64 vectors."""
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    gamma, beta = np.ones_like(mean), np.zeros_like(mean)
    if layer.scale:
        gamma = np.asarray(layer.gamma)
    if layer.center:
        beta = np.asarray(layer.beta)
    return [np.asarray(value, "float64") for value in (gamma, beta, mean, variance)]


def takes_factor(conv: keras.Layer) -> bool:
    """Whether what multiplies the channels of a convolution's input can be in its kernel."""
    stock = conv.data_format == "channels_last" and getattr(conv, "groups", 1) == 1
    return stock and not isinstance(conv, MIXED)


def with_factor(
    weights: Sequence[np.ndarray], factor: np.ndarray, channels: int
) -> list[np.ndarray]:
    """Returns weights that multiply the channels of the input by a factor, too.

    Args:
        weights: a kernel, (k, k, C, F) or, of a depthwise convolution, (k, k, C, M); and a
            bias or none.
        factor: a number or (C,).
        channels: C.
    """
    kernel, *bias = weights
    factor = np.broadcast_to(factor, (channels,))
    return [(kernel * factor[:, np.newaxis]).astype("float32"), *bias]


def is_same(conv: keras.Layer, padding: Padding, sides: Sequence[int | None]) -> bool:
    """Whether zeros around a map are those that padding "same" would put there.

    Args:
        conv: a convolution with padding "valid".
        padding: the zeros before it.
        sides: (H, W) of the map without them; where one is None, nobody knows.
    """
    known = [side for side in sides if side is not None]
    if conv.padding != "valid" or conv.data_format != "channels_last" or len(known) < len(sides):
        return False
    steps = zip(conv.kernel_size, conv.strides, conv.dilation_rate)
    wanted = [same_padding(side, *each) for side, each in zip(known, steps)]
    return wanted == [tuple(pair) for pair in padding]
