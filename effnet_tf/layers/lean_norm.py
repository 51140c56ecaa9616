"""How is a map normalised by its own statistics in fewer passes over it?

TensorFlow's fused operation computes mean, variance and normalised map at once, and its gradient is
one operation, too; Keras' batch norm takes 2.5 to 3 times as long on a CPU, for it goes over the
map once for the mean, once for the squared differences, and several times for the gradient.

The fused operation returns the variance with Bessel's correction n / (n - 1); what normalises, and
what Keras' moving variance follows, is the one without. What it keeps for its gradient differs
between devices, and is handed to that gradient alone.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from effnet_tf.layers.lean_places import obstacle, under_xla
from effnet_tf.layers.lean_sources import Source, note


def normalised(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalises a map by its statistics over images and pixels.

    Args:
        x: (N, H, W, C); in float32, and not under XLA, by the fused operation.
        gamma: (C,), the factor of what is normalised.
        beta: (C,), which is added to it.
        epsilon: added to the variance, > 0.

    Returns:
        (normalised map, mean (C,), variance (C,)); use the latter two for moving statistics alone.
    """
    if x.dtype != tf.float32 or under_xla():
        wide = tf.cast(x, gamma.dtype)
        mean, variance = tf.nn.moments(wide, (0, 1, 2))
        y = tf.nn.batch_normalization(wide, mean, variance, beta, gamma, epsilon)
        return tf.cast(y, x.dtype), mean, variance
    none = tf.zeros((0,), x.dtype)
    y, mean, corrected, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon, is_training=True
    )
    return y, tf.stop_gradient(mean), tf.stop_gradient(uncorrected(corrected, x))


def normalised_by(
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """Normalises a map (N, H, W, C) by given statistics, each (C,); the others as `normalised`."""
    wide = tf.cast(x, mean.dtype)
    y = tf.nn.batch_normalization(wide, mean, variance, beta, gamma, epsilon)
    return tf.cast(y, x.dtype)


def uncorrected(variance: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns the variance (C,) of a map (N, H, W, C) without Bessel's correction."""
    count = tf.cast(tf.size(x) // tf.shape(x)[-1], variance.dtype)
    return variance * (tf.maximum(count - 1, 1) / count)


def follow(layer: keras.layers.BatchNormalization, mean: tf.Tensor, variance: tf.Tensor) -> None:
    """Moves the statistics of a layer towards those of a batch, each (C,), as Keras does."""
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        momentum = layer.momentum
        moving.assign(moving * momentum + tf.cast(value, moving.dtype) * (1 - momentum))


def is_ordinary(layer: keras.layers.BatchNormalization) -> bool:
    """Whether a layer is none of Keras' special forms: renormalising, synchronised, half."""
    return not (
        getattr(layer, "renorm", False) or layer.synchronized or not layer.scale or not layer.center
    )


def can_fuse(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> bool:
    """Whether the fused operation can take the place of a layer's own computation in training."""
    return (
        is_ordinary(layer)
        and len(inputs.shape) == 4
        and layer.axis in (-1, 3)
        and inputs.dtype == layer.compute_dtype == layer.variable_dtype == "float32"
        and obstacle(inputs.dtype) is None
    )


def fused(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """Returns what a layer makes of a map (N, H, W, C) in training, by the fused operation."""
    gamma, beta = (tf.convert_to_tensor(each.value) for each in (layer.gamma, layer.beta))
    outputs, mean, variance = normalised(inputs, gamma, beta, layer.epsilon)
    follow(layer, mean, variance)
    scaling = Statistics(mean, variance).scaling(gamma, beta, layer.epsilon)
    note(outputs, Source(inputs, *scaling))
    return outputs


def fuse(layer: keras.layers.BatchNormalization) -> None:
    """Lets this layer of Keras' take the fused operation wherever it can.

    It holds for this very instance, and no saved file knows of it.
    """
    plain = layer.call

    def call(inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None):
        if mask is None and training and layer.trainable and can_fuse(layer, inputs):
            return fused(layer, inputs)
        return plain(inputs, training=training, mask=mask)

    layer.call = call


class Statistics(NamedTuple):
    """By what a map is normalised.

    Attributes:
        mean: (C,).
        variance: (C,), without Bessel's correction.
        kept: what the fused operation keeps for its gradient; empty where it has no part in it.
        own: whether they are the map's own, so that they move with it.
    """

    mean: tf.Tensor
    variance: tf.Tensor
    kept: tuple[tf.Tensor, ...] = ()
    own: bool = True

    def scaling(
        self, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (factor, shift), each (C,): batch norm is x * factor + shift."""
        factor = gamma * tf.math.rsqrt(self.variance + epsilon)
        return factor, beta - self.mean * factor


def measured(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> Statistics:
    """Returns the statistics of a map (N, H, W, C) over images and pixels.

    Those of float32 by the fused operation, whose normalised map is thrown away: that is quicker
    than TensorFlow's mean and variance.
    """
    if x.dtype == tf.float32 and not under_xla():
        none = tf.zeros((0,), x.dtype)
        _, mean, corrected, *kept = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon
        )
        return Statistics(mean, uncorrected(corrected, x), tuple(kept))
    return Statistics(*tf.nn.moments(tf.cast(x, gamma.dtype), (0, 1, 2)))


def gradients(
    d: tf.Tensor, x: tf.Tensor, gamma: tf.Tensor, statistics: Statistics, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the gradients of x, gamma and beta, where d is that of the normalised map.

    With z = (x - mean) / s, s = sqrt(variance + epsilon), and n numbers in a channel: beta gets
    sum d, gamma gets sum d z, and x gets gamma / s times d - (sum d) / n - z (sum d z) / n. The two
    means come from the statistics, which depend on x; given ones do not.

    Args:
        d: (N, H, W, C).
        x: (N, H, W, C), what was normalised.
        gamma: (C,).
        statistics: by which.
        epsilon: that was added to the variance.
    """
    if statistics.kept:
        keep = {f"reserve_space_{at}": each for at, each in enumerate(statistics.kept, 1)}
        return tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=d, x=x, scale=gamma, epsilon=epsilon, is_training=True, **keep
        )[:3]
    dtype, x, d = x.dtype, tf.cast(x, gamma.dtype), tf.cast(d, gamma.dtype)
    inverse = tf.math.rsqrt(statistics.variance + epsilon)
    z = (x - statistics.mean) * inverse
    of_gamma, of_beta = tf.reduce_sum(d * z, (0, 1, 2)), tf.reduce_sum(d, (0, 1, 2))
    if statistics.own:
        count = tf.cast(tf.size(x) // tf.shape(x)[-1], x.dtype)
        d -= (of_beta + z * of_gamma) / count
    return tf.cast(d * (gamma * inverse), dtype), of_gamma, of_beta
