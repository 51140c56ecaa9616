"""What do the taps of a kernel see: which values, with which means and covariances?"""

import math
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from effnet_tf.export.tflite import linking
from effnet_tf.layers.shapes import same_padding

# Of an image, for the statistics: some 50,000 of 64 images tell a covariance well enough.
MOST_PLACES = 784


def rows_of(layer: keras.Layer, kernel: np.ndarray) -> np.ndarray:
    """Returns a kernel as (G, F, T): G groups of F output channels that see the same T taps.

    Args:
        layer: of `linking.is_kernel`: a convolution or dense layer.
        kernel: (k, k, C, F) or (C, F), one group; of a depthwise convolution (k, k, C, M),
            C groups of M channels.
    """
    if linking.is_depthwise(layer):
        return kernel.reshape(-1, *kernel.shape[2:]).transpose(1, 2, 0)
    return kernel.reshape(-1, kernel.shape[-1]).T[np.newaxis]


def kernel_of(layer: keras.Layer, rows: np.ndarray) -> np.ndarray:
    """Returns the kernel whose `rows_of` were these."""
    if linking.is_depthwise(layer):
        return rows.transpose(2, 0, 1).reshape(layer.kernel.shape)
    return rows[0].T.reshape(layer.kernel.shape)


def mean(layer: keras.Layer, batches: Sequence[tf.Tensor]) -> np.ndarray:
    """Returns the mean of what each tap sees, (G, T) float64.

    Args:
        layer: of `linking.is_kernel`.
        batches: its inputs, (N, ..., C).
    """
    total, count = np.zeros(()), 0
    for batch in batches:
        seen = _patches(layer, batch)
        total = total + tf.reduce_sum(seen, 1).numpy().astype("float64")
        count += seen.shape[1]
    return total / count


def covariance(layer: keras.Layer, batches: Sequence[tf.Tensor], centre: np.ndarray) -> np.ndarray:
    """Returns the second moments of what the taps see around a centre, (G, T, T) float64.

    Args:
        layer: of `linking.is_kernel`.
        batches: its inputs, (N, ..., C).
        centre: (G, T), such as their mean.
    """
    total, count = np.zeros(()), 0
    for batch in batches:
        seen = _patches(layer, batch) - centre[:, np.newaxis].astype("float32")
        total = total + tf.matmul(seen, seen, transpose_a=True).numpy().astype("float64")
        count += seen.shape[1]
    return total / count


def _patches(layer, batch):
    """Returns what the taps see at some places of all images, (G, places, T)."""
    if isinstance(layer, keras.layers.Dense):
        return tf.reshape(batch, (1, -1, batch.shape[-1]))
    kernel, rates = layer.kernel_size, layer.dilation_rate
    padded = _padded(layer, batch)
    sides = [
        (side - (taps - 1) * rate - 1) // stride + 1
        for side, taps, rate, stride in zip(padded.shape[1:3], kernel, rates, layer.strides)
    ]
    skipped = math.ceil(math.sqrt(sides[0] * sides[1] / MOST_PLACES))
    strides = [stride * skipped for stride in layer.strides]
    found = tf.image.extract_patches(
        padded, [1, *kernel, 1], [1, *strides, 1], [1, *rates, 1], "VALID"
    )
    if linking.is_depthwise(layer):
        found = tf.reshape(found, (-1, kernel[0] * kernel[1], batch.shape[-1]))
        return tf.transpose(found, (2, 0, 1))
    return tf.reshape(found, (1, -1, found.shape[-1]))


def _padded(layer, batch):
    if layer.padding == "valid":
        return batch
    sides = [
        same_padding(*each)
        for each in zip(batch.shape[1:3], layer.kernel_size, layer.strides, layer.dilation_rate)
    ]
    return tf.pad(batch, [(0, 0), *sides, (0, 0)])
