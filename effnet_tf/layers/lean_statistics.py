"""By what is a map normalised, and what gradient has it then?

The fused operation returns the variance with Bessel's correction n / (n - 1); what normalises, and
what Keras' moving variance follows, is the one without. What it keeps for its gradient differs
between devices, and is handed to that gradient alone.

XLA fuses sums over a map with the convolution that writes it, if all of them can be taken at once:
with a number p for each channel, mean = p + E[x - p] and variance = E[(x - p)^2] - E[x - p]^2. The
moving mean is p, so that the difference does not cancel where the mean is far from 0. (The original
on TPUs has p = 0, as `BatchNormExpander` of XLA.)

Where replicas share statistics (replica_group.py), each measures its part of the batch as above,
and they average what they found.
"""

from typing import NamedTuple

import tensorflow as tf

from effnet_tf.layers import lean_passes
from effnet_tf.layers.lean_places import under_xla
from effnet_tf.layers.replica_group import Group


class Statistics(NamedTuple):
    """By what a map is normalised.

    Attributes:
        mean: (C,).
        variance: (C,), without Bessel's correction.
        kept: what the fused operation keeps for its gradient; empty where it has no part in it.
        own: whether they are the map's own, so that they move with it.
        group: the replicas whose maps they are of, too; None: of this one alone.
    """

    mean: tf.Tensor
    variance: tf.Tensor
    kept: tuple[tf.Tensor, ...] = ()
    own: bool = True
    group: Group | None = None

    def scaling(
        self, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns (factor, shift), each (C,): batch norm is x * factor + shift."""
        factor = gamma * tf.math.rsqrt(self.variance + epsilon)
        return factor, beta - self.mean * factor

    def normal(self, x: tf.Tensor, epsilon: float) -> tf.Tensor:
        """Returns z (N, H, W, C): the map before gamma and beta, in the dtype of the statistics."""
        return (tf.cast(x, self.mean.dtype) - self.mean) * tf.math.rsqrt(self.variance + epsilon)

    def shared(self, group: Group | None) -> "Statistics":
        """Returns those of a group of replicas, of what each found itself; None: these."""
        if group is None:
            return self
        return Statistics(*group.moments(self.mean, self.variance), group=group)

    def averages(self, x: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
        """Returns sums (C,) over a map x, divided by the numbers that the statistics are of.

        Where replicas share them, these are the sums and the numbers of all.
        """
        count = numbers_in_a_channel(x, self.mean.dtype)
        found = [each / count for each in sums]
        return found if self.group is None else self.group.averages(*found)


def measured(
    x: tf.Tensor,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    pivot: tf.Tensor | None = None,
    group: Group | None = None,
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
        group: the replicas that share the statistics, or None.
    """
    return _measured(x, gamma, beta, epsilon, pivot).shared(group)


def _measured(x, gamma, beta, epsilon, pivot):
    """As `measured`, of this replica alone."""
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
    means come from the statistics, which depend on x; given ones do not. Where replicas share
    statistics, what they do to x is the sum of what they do on all replicas, and so both sums and n
    are those of the group; beta and gamma get this replica's, which the strategy adds up.

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
    if x.dtype == tf.float32 and not under_xla():
        return _fused_gradients(d, x, gamma, statistics, epsilon)
    dtype, d, z = x.dtype, tf.cast(d, gamma.dtype), statistics.normal(x, epsilon)
    inverse = tf.math.rsqrt(statistics.variance + epsilon)
    if sums is None:
        sums = tf.reduce_sum(d * z, (0, 1, 2)), tf.reduce_sum(d, (0, 1, 2))
    of_gamma, of_beta = sums
    if statistics.own:
        by_z, by_one = of_gamma, of_beta
        if statistics.group is not None:
            by_z, by_one = statistics.group.averages(by_z, by_one)
        # Divided here, not before: else a TPU's compiler writes bfloat16 maps once more.
        d -= (by_one + z * by_z) / numbers_in_a_channel(x, d.dtype)
    return tf.cast(d * (gamma * inverse), dtype), of_gamma, of_beta


def _fused_gradients(d, x, gamma, statistics, epsilon):
    """As `gradients`, by the operation that takes the statistics for given; the rest in a pass."""
    of_x, of_gamma, of_beta, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=d,
        x=x,
        scale=gamma,
        reserve_space_1=statistics.mean,
        reserve_space_2=statistics.variance,
        reserve_space_3=statistics.mean,  # not read on any device
        epsilon=epsilon,
        is_training=False,
    )
    if statistics.own:
        line = share_of_statistics(x, gamma, statistics, epsilon, (of_gamma, of_beta))
        of_x = lean_passes.less(of_x, x, *line)
    return of_x, of_gamma, of_beta


def share_of_statistics(
    x: tf.Tensor,
    gamma: tf.Tensor,
    statistics: Statistics,
    epsilon: float,
    sums: tuple[tf.Tensor, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (slope, shift), each (C,): x gets x * slope + shift less than by given statistics.

    Args:
        x: (N, H, W, C), what was normalised.
        gamma: (C,).
        statistics: of x.
        epsilon: that was added to the variance.
        sums: (sum d z, sum d), each (C,), of this replica.
    """
    by_z, by_one = statistics.averages(x, *sums)
    inverse = tf.math.rsqrt(statistics.variance + epsilon)
    slope = gamma * inverse * inverse * by_z
    return slope, gamma * inverse * by_one - statistics.mean * slope


def uncorrected(variance: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Returns the variance (C,) of a map (N, H, W, C) without Bessel's correction."""
    count = numbers_in_a_channel(x, variance.dtype)
    return variance * (tf.maximum(count - 1, 1) / count)


def numbers_in_a_channel(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Returns how many numbers a channel of a map (N, H, W, C) has, ().

    Where the sides are known it is one operation instead of eight, and a step asks 150 times.
    """
    known = x.shape[:-1].num_elements()
    if known is not None:
        return tf.constant(known, dtype)
    return tf.cast(tf.size(x) // tf.shape(x)[-1], dtype)
