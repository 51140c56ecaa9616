"""How is a map normalised by its own statistics in fewer passes over it?

TensorFlow's fused operation computes mean, variance and normalised map at once, and its gradient is
one operation, too; Keras' batch norm takes 2.5 to 3 times as long on a CPU, for it goes over the
map once for the mean, once for the squared differences, and several times for the gradient. Where
the gradient is written down it is that of `lean_statistics.py`.
"""

import keras
import tensorflow as tf

from effnet_tf.layers import lean_passes
from effnet_tf.layers.lean_derivatives import derivable
from effnet_tf.layers.lean_places import obstacle, under_xla
from effnet_tf.layers.lean_sources import Convolved, Source, again_for_both, note, source_of
from effnet_tf.layers.lean_statistics import Statistics, gradients, measured, uncorrected
from effnet_tf.layers.replica_group import Group


def normalised(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    pivot: tf.Tensor | None = None,
    group: Group | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalises a map by its statistics over images and pixels.

    Args:
        x: (N, H, W, C); in float32, and not under XLA, by the fused operation.
        gamma: (C,), the factor of what is normalised.
        beta: (C,), which is added to it.
        epsilon: added to the variance, > 0.
        pivot: of `measured`.
        group: of `measured`.

    Returns:
        (normalised map, mean (C,), variance (C,)); use the latter two for moving statistics alone.
    """
    if under_xla() or group is not None or isinstance(source_of(x), Convolved):
        return _known_slope(x, gamma, beta, epsilon, pivot, group)
    if x.dtype != tf.float32:
        return by_moments(x, gamma, beta, epsilon)
    none = tf.zeros((0,), x.dtype)
    y, mean, corrected, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=none, variance=none, epsilon=epsilon, is_training=True
    )
    return y, tf.stop_gradient(mean), tf.stop_gradient(uncorrected(corrected, x))


def by_moments(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, group: Group | None = None
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """As `normalised`, by operations that autodiff knows, as often as one likes.

    `tf.nn.moments` stops the gradient that the mean has of the variance. It is zero, but its own
    gradient is not.
    """
    wide = tf.cast(x, gamma.dtype)
    mean = tf.reduce_mean(wide, (0, 1, 2))
    variance = tf.reduce_mean(tf.square(wide - mean), (0, 1, 2))
    if group is not None:  # asked anew: what it has found before is constant for autodiff
        mean, variance = Group(group.size).moments(mean, variance)
    y = tf.nn.batch_normalization(wide, mean, variance, beta, gamma, epsilon)
    return tf.cast(y, x.dtype), mean, variance


def _known_slope(x, gamma, beta, epsilon, pivot, group):
    """As `normalised`; its gradient is written down, for autodiff's would know of the pivot.

    It may compute x again, where that has an origin.
    """
    known = x  # this very tensor

    @tf.custom_gradient
    def run(x, gamma, beta):
        statistics = measured(x, gamma, beta, epsilon, pivot, group)
        y = lean_passes.activated(None, x, *statistics.scaling(gamma, beta, epsilon))

        def gradient(d, *_):
            def first(d):
                return list(gradients(d, again_for_both(known, d), gamma, statistics, epsilon))

            def plain(x, weights):
                return by_moments(x, weights["gamma"], weights["beta"], epsilon, group)[0]

            return derivable(first, plain, d, x, {"gamma": gamma, "beta": beta})

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


def fused(
    layer: keras.layers.BatchNormalization, inputs: tf.Tensor, group: Group | None = None
) -> tf.Tensor:
    """Returns what a layer makes of a map (N, H, W, C) in training, by the fused operation."""
    gamma, beta = (tf.convert_to_tensor(each.value) for each in (layer.gamma, layer.beta))
    pivot = tf.convert_to_tensor(layer.moving_mean.value)
    outputs, mean, variance = normalised(inputs, gamma, beta, layer.epsilon, pivot, group)
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
