"""How does an expansion leave no map behind, and never exist as a whole?

A 1x1 convolution widens a map: e = x W, with M rows x of I numbers, one for each pixel of each
image, and C > I numbers in a row of e. Batch norm, an activation and a convolution follow. The
statistics of e are known before e is, for with the mean u and the covariance K of the narrow rows,

    mean of e = u W,   variance of channel c = W_c' K W_c,

and so z = conv(activation(e factor + shift)) can be computed for some images after the other: of e
there is a piece at a time. The same holds for the gradient. Let s = sqrt(variance + epsilon),
factor = gamma / s, and dy the gradient of y = e factor + shift, which comes in pieces, too. Of it
two sums are needed, S = x' dy (I, C) and b = the sum of dy (C,). As in lean_statistics.py,

    of beta  = b,
    of gamma = (diagonal of W' S - mean b) / s               =: g
    of e     = factor (dy - b / M - (e - mean) g / (s M)),

and through e = x W, with k = factor g / (s M) and c = factor b / M + k (u W - mean),

    of W = factor S - M (K W k + u c),
    of x = dy (factor W)' - (x - u) (W k W') - c W'.

Only the first term of the last line is of a piece. Where replicas share statistics, mean, variance,
and b / M and g / M in what e gets, are those of all; else u W is the mean.

The covariance is computed from rows less their mean: where a mean is far larger than the deviation,
a difference of large sums would leave nothing.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from effnet_tf.layers import lean_passes
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_derivatives import derivable
from effnet_tf.layers.lean_places import under_xla
from effnet_tf.layers.lean_sources import again
from effnet_tf.layers.lean_statistics import Statistics, numbers_in_a_channel
from effnet_tf.layers.lean_units import Unit
from effnet_tf.layers.replica_group import Group

_EXPANSION = LeanConvolution(depthwise=False, size=1)
MEGABYTES = 20  # of a piece of the wide map, at most, unless one image has more


@dataclasses.dataclass(frozen=True)
class Expansion:
    """[1x1 convolution, batch norm by the map's statistics, activation, convolution], in pieces.

    Attributes:
        epsilon: of the batch norm.
        activation: one that `lean_passes.knows`.
        following: the convolution after it.
        group: the replicas that share the statistics, or None.
    """

    epsilon: float
    activation: str | None
    following: LeanConvolution
    group: Group | None = None

    def __call__(
        self, x: tf.Tensor, weights: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns (output, mean (C,), variance (C,)); the statistics have no gradient.

        Args:
            x: (N, H, W, I).
            weights: "first" (1, 1, I, C), "gamma" and "beta" (C,), and "kernel" of `following`.
        """

        kept = x  # this very tensor may have a source

        @tf.custom_gradient
        def run(x, *values):
            named = dict(zip(weights, values))
            narrow = Narrow(x, named["first"][0, 0])
            statistics = narrow.statistics(self.group)
            output = self._forward(x, named, statistics)

            def gradient(d, *_):
                def first(d):
                    found = self._backward(d, again(kept, d), named, narrow, statistics)
                    return [found[name] for name in ("x", *weights)]

                return derivable(first, self._whole().plain, d, x, named)

            return (output, statistics.mean, statistics.variance), gradient

        return run(x, *weights.values())

    def _whole(self):
        return Unit(
            self.epsilon, self.activation, self.following, None, _EXPANSION, group=self.group
        )

    def _forward(self, x, weights, statistics):
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        outputs, before = [], [scaling[0]]
        for first, last in pieces(x, weights["first"].shape[-1]):
            with tf.control_dependencies(before):  # one after the other
                _, h = self._activated(x[first:last], weights, scaling)
            outputs.append(self.following.forward(h, weights["kernel"]))
            before = outputs[-1:]
        return joined(outputs)

    def _backward(self, d, x, weights, narrow, statistics):
        """Returns the gradients of x and of the weights, by name."""
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        sums, of_kernel, of_x, before = [], [], [], [d]
        back = tf.transpose(narrow.weight * scaling[0])
        for first, last in pieces(x, weights["first"].shape[-1]):
            with tf.control_dependencies(before):  # or the slices would wait from the start
                piece = x[first:last]
                dy, of_piece = self._of_piece(piece, d[first:last], weights, scaling)
            of_kernel.append(of_piece)
            of_x.append(tf.matmul(dy, back))
            sums.append(_sums(_rows(piece), dy))
            before = [sums[-1], of_x[-1]]
        of_x = joined(of_x)
        total = tf.add_n(sums)
        centred = total[:-1] - narrow.mean[:, tf.newaxis] * total[-1]
        others = narrow.gradients(centred, total[-1], statistics, weights["gamma"], self.epsilon)
        of_x -= tf.matmul(_rows(x) - narrow.mean, others["x factor"]) + others["x shift"]
        return {
            "x": tf.reshape(of_x, tf.shape(x)),
            "first": others["weight"][tf.newaxis, tf.newaxis],
            "gamma": others["gamma"],
            "beta": total[-1],
            "kernel": tf.add_n(of_kernel),
        }

    def _of_piece(self, x, d, weights, scaling):
        """Returns the gradients of y, as rows, and of the kernel, for some images."""
        e, h = self._activated(x, weights, scaling)
        of_kernel = self.following.to_kernel(h, d, weights["kernel"])
        with tf.control_dependencies([of_kernel]):  # by then h has gone
            dh = self.following.to_input(d, weights["kernel"], e)
        # The slope is that of y; batch norm's own gradient is added up for all pieces at once.
        return _rows(lean_passes.slope(self.activation, e, *scaling, dh)), of_kernel

    def _activated(self, x, weights, scaling):
        e = _EXPANSION.forward(x, weights["first"])
        return e, lean_passes.activated(self.activation, e, *scaling)


class Narrow:
    """A narrow map, and what its covariance tells of the wide one.

    Args:
        x: (N, H, W, I).
        weight: (I, C), float32 or float64, and so is all that is computed here.

    Attributes:
        centred: x less its mean, (N, H, W, I).
        mean: (I,), of x.
        wide_mean: (C,), of the wide map.
    """

    def __init__(self, x: tf.Tensor, weight: tf.Tensor):
        self.weight, x = weight, tf.cast(x, weight.dtype)
        self._count = numbers_in_a_channel(x, x.dtype)
        self.mean = tf.reduce_mean(x, (0, 1, 2))
        self.centred = x - self.mean
        self.wide_mean = tf.linalg.matvec(weight, self.mean, transpose_a=True)
        covariance = product(self.centred, self.centred) / self._count
        self._spread = tf.matmul(covariance, weight)

    def statistics(self, group: Group | None) -> Statistics:
        """Returns those of the wide map; a group of replicas shares them."""
        variance = tf.reduce_sum(self.weight * self._spread, 0)
        return Statistics(self.wide_mean, variance).shared(group)

    def gradients(
        self,
        centred: tf.Tensor,
        b: tf.Tensor,
        statistics: Statistics,
        gamma: tf.Tensor,
        epsilon: float,
    ) -> dict[str, tf.Tensor]:
        """Returns what sums say of gamma, of the weight, and of x.

        Args:
            centred: (I, C), S - u b: of products of the centred rows and dy.
            b: (C,), of dy.
            statistics: by which the wide map was normalised.
            gamma: (C,), of the batch norm.
            epsilon: that was added to the variance.

        Returns:
            "gamma" (C,), "weight" (I, C); "x factor" (I, I) and "x shift" (I,): the gradient of a
            row is that of its dy, less its centred row times the factor, less the shift.
        """
        inverse = tf.math.rsqrt(statistics.variance + epsilon)
        factor, away = gamma * inverse, self.wide_mean - statistics.mean
        of_gamma = inverse * (tf.reduce_sum(self.weight * centred, 0) + away * b)
        by_z, by_one = statistics.averages(self.centred, of_gamma, b)
        k = factor * inverse * by_z
        c = factor * by_one + k * away
        of_mean = self.mean[:, tf.newaxis] * (factor * b - self._count * c)
        return {
            "gamma": of_gamma,
            "weight": factor * centred + of_mean - self._spread * (self._count * k),
            "x factor": tf.matmul(self.weight * k, self.weight, transpose_b=True),
            "x shift": tf.linalg.matvec(self.weight, c),
        }


def product(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns x' y (I, C), over all pixels of maps (N, H, W, I) and (N, H, W, C)."""
    if under_xla():  # it keeps its own order of axes, and fuses what x and y are made of
        return tf.einsum("nhwi,nhwc->ic", x, y)
    return tf.matmul(_rows(x), _rows(y), transpose_a=True)


def pieces(x: tf.Tensor, channels: int) -> list[tuple[int, int | None]]:
    """Returns (first, last) of the images of each piece; one of all, where sides are not known.

    Args:
        x: (N, H, W, I).
        channels: of the wide map.
    """
    if None in x.shape:
        return [(0, None)]
    images, height, width, _ = x.shape
    each = height * width * channels * x.dtype.size
    size = _images_of_a_piece(images, max(1, int(MEGABYTES * 10**6 / each)))
    return [(first, min(first + size, images)) for first in range(0, images, size)]


def _images_of_a_piece(images, most):
    """At most so many, and equally many in all pieces if that leaves more than half of them.

    XLA compiles the passes for each size.
    """
    for size in range(most, most // 2, -1):
        if images % size == 0:
            return size
    return most


def _rows(x):
    return tf.reshape(x, (-1, x.shape[-1]))


def joined(parts: list[tf.Tensor]) -> tf.Tensor:
    """Returns a map that has come in pieces."""
    if len(parts) == 1:
        return parts[0]
    return tf.concat(parts, 0)


def _sums(rows, dy):
    """S and below it b, (I + 1, C): one product, for both go over all of dy."""
    ones = tf.ones_like(rows[:, :1])
    return tf.matmul(tf.concat([rows, ones], 1), dy, transpose_a=True)
