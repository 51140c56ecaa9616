"""How is a map normalised by its own statistics in fewer passes over it?

TensorFlow's fused operation computes mean, variance and normalised map at once, and its gradient is
one operation, too; Keras' batch norm takes 2.5 to 3 times as long on a CPU, for it goes over the
map once for the mean, once for the squared differences, and several times for the gradient.

The fused operation returns the variance with Bessel's correction n / (n - 1); what normalises, and
what Keras' moving variance follows, is the one without. What it keeps for its gradient differs
between devices, and is handed to that gradient alone.

XLA fuses sums over a map with the convolution that writes it, if all of them can be taken at once:
with a number p for each channel, mean = p + E[x - p] and variance = E[(x - p)^2] - E[x - p]^2. The
moving mean is p, so that the difference does not cancel where the mean is far from 0. (The original
on TPUs has p = 0, as `BatchNormExpander` of XLA.)
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from effnet_tf.layers.lean_places import obstacle, under_xla
from effnet_tf.layers.lean_sources import Source, note


def normalised(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, pivot: tf.Tensor | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalises a map by its statistics over images and pixels.

    Args:
        x: (N, H, W, C); in float32, and not under XLA, by the fused operation.
        gamma: (C,), the factor of what is normalised.
        beta: (C,), which is added to it.
        epsilon: added to the variance, > 0.
        pivot: of `measured`.

    Returns:
        (normalised map, mean (C,), variance (C,)); use the latter two for moving statistics alone.
    """
    if under_xla():
        return _fusible(x, gamma, beta, epsilon, pivot)
    if x.dtype != tf.float32:
        wide = tf.cast(x, gamma.dtype)
        mean, variance = tf.nn.moments(wide, (0, 1, 2))
        y = tf.nn.batch_normalization(wide, mean, variance, beta, gamma, epsilon)
        return tf.cast(y, x.dtype), mean, variance
    none = tf.zeros((0,), x.dtype)
    y, mean, corrected, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon, is_training=True
    )
    return y, tf.stop_gradient(mean), tf.stop_gradient(uncorrected(corrected, x))


def _fusible(x, gamma, beta, epsilon, pivot):
    """As `normalised`; its gradient is written down, for autodiff's would know of the pivot."""

    @tf.custom_gradient
    def run(x, gamma, beta):
        statistics = measured(x, gamma, beta, epsilon, pivot)
        factor, shift = statistics.scaling(gamma, beta, epsilon)
        y = tf.cast(tf.cast(x, factor.dtype) * factor + shift, x.dtype)

        def gradient(d, *_):
            return gradients(d, x, gamma, statistics, epsilon)

        return (y, statistics.mean, statistics.variance), gradient

    y, *statistics = run(x, gamma, beta)
    return y, *map(tf.stop_gradient, statistics)


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
        and layer.variable_dtype == "float32"
        and (under_xla() or inputs.dtype == layer.compute_dtype == "float32")
        and obstacle(inputs.dtype) is None
    )


def fused(layer: keras.layers.BatchNormalization, inputs: tf.Tensor) -> tf.Tensor:
    """Returns what a layer makes of a map (N, H, W, C) in training, by the fused operation."""
    gamma, beta = (tf.convert_to_tensor(each.value) for each in (layer.gamma, layer.beta))
    pivot = tf.convert_to_tensor(layer.moving_mean.value)
    outputs, mean, variance = normalised(inputs, gamma, beta, layer.epsilon, pivot)
    follow(layer, mean, variance)
    note(outputs, source(inputs, mean, variance, gamma, beta, layer.epsilon))
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


def source(
    x: tf.Tensor,
    mean: tf.Tensor,
    variance: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
) -> Source | None:
    """Returns what the output of a batch norm is made of; arguments as of `normalised_by`.

    Under XLA there is none: it would find that it has computed the output before, and keep that.
    """
    if under_xla():
        return None
    return Source(x, *Statistics(mean, variance).scaling(gamma, beta, epsilon))


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

    def normal(self, x: tf.Tensor, epsilon: float) -> tf.Tensor:
        """Returns z (N, H, W, C): the map before gamma and beta, in the dtype of the statistics."""
        return (tf.cast(x, self.mean.dtype) - self.mean) * tf.math.rsqrt(self.variance + epsilon)


def measured(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, pivot: tf.Tensor | None = None
) -> Statistics:
    """Returns the statistics of a map (N, H, W, C) over images and pixels.

    Those of float32 by the fused operation, whose normalised map is thrown away: that is quicker
    than TensorFlow's mean and variance.

    Args:
        x: the map.
        gamma: (C,), of the batch norm.
        beta: (C,).
        epsilon: that it adds to the variance.
        pivot: (C,), numbers near the mean; None: 0. It matters under XLA alone.
    """
    if x.dtype == tf.float32 and not under_xla():
        none = tf.zeros((0,), x.dtype)
        _, mean, corrected, *kept = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon
        )
        return Statistics(mean, uncorrected(corrected, x), tuple(kept))
    wide = tf.cast(x, gamma.dtype)
    if under_xla():
        return _measured_at_once(wide, pivot)
    return Statistics(*tf.nn.moments(wide, (0, 1, 2)))


def _measured_at_once(x, pivot):
    if pivot is None:
        pivot = tf.zeros((x.shape[-1],), x.dtype)
    pivot = tf.stop_gradient(tf.cast(pivot, x.dtype))
    mean, square = (tf.reduce_mean(each, (0, 1, 2)) for each in (x - pivot, tf.square(x - pivot)))
    return Statistics(pivot + mean, tf.maximum(square - tf.square(mean), 0.0))


def gradients(
    d: tf.Tensor,
    x: tf.Tensor,
    gamma: tf.Tensor,
    statistics: Statistics,
    epsilon: float,
    sums: tuple[tf.Tensor, tf.Tensor] | None = None,
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
        sums: (sum d z, sum d), each (C,), where they are known.
    """
    if statistics.kept:
        keep = {f"reserve_space_{at}": each for at, each in enumerate(statistics.kept, 1)}
        return tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=d, x=x, scale=gamma, epsilon=epsilon, is_training=True, **keep
        )[:3]
    dtype, d, z = x.dtype, tf.cast(d, gamma.dtype), statistics.normal(x, epsilon)
    inverse = tf.math.rsqrt(statistics.variance + epsilon)
    if sums is None:
        sums = tf.reduce_sum(d * z, (0, 1, 2)), tf.reduce_sum(d, (0, 1, 2))
    of_gamma, of_beta = sums
    if statistics.own:
        count = tf.cast(tf.size(x) // tf.shape(x)[-1], d.dtype)
        d -= (of_beta + z * of_gamma) / count
    return tf.cast(d * (gamma * inverse), dtype), of_gamma, of_beta
