"""How does XLA move fewer bytes for an expansion, or never keep it, or have it whole?

The gradient of [1x1 convolution e = x W, batch norm, activation, depthwise convolution] reads the
wide map e and dy, the gradient of the normalised one, once for x and once for W, for batch norm's
own gradient is made of both. By the algebra of `lean_pieces.py` x and W need dy alone, and the
narrow x: of ten times that a wide map is read or written in a step two are saved. (For the
statistics its covariance is not needed here: XLA takes them in the convolution that writes e.)

Every step of it treats channels of e by themselves. So where e is computed again for the gradient,
that is done for some channels after the other, and there is a piece of e and dy at a time. (Images
would not do as pieces: a TPU lays them out along its lanes, of which it has 128.)
"""

import dataclasses
import math
from collections.abc import Mapping

import tensorflow as tf

from effnet_tf.layers import lean_passes, lean_statistics
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_derivatives import derivable
from effnet_tf.layers.lean_pieces import Narrow, product
from effnet_tf.layers.lean_units import Unit, held_back
from effnet_tf.layers.replica_group import Group

_EXPANSION = LeanConvolution(depthwise=False, size=1)
LARGE = 64 * 10**6  # bytes; smaller maps of bfloat16 stay on the chip: reading them costs little
PIECES = 4  # at most; more of them save little, for by then other maps are the most
_TILE = 8  # channels that a TPU lays out together


@dataclasses.dataclass(frozen=True)
class Widening:
    """[1x1 convolution, batch norm by the map's statistics, activation, depthwise convolution].

    Attributes:
        epsilon: of the batch norm.
        activation: one that `lean_passes.knows`.
        following: the depthwise convolution.
        again: whether the wide map is computed again for the gradient, instead of kept.
        pivot: of `lean_statistics.measured`.
        group: of `lean_statistics.measured`.
    """

    epsilon: float
    activation: str | None
    following: LeanConvolution
    again: bool = False
    pivot: tf.Tensor | None = None
    group: Group | None = None

    def __call__(
        self, x: tf.Tensor, weights: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns (output, mean (C,), variance (C,)); the statistics have no gradient.

        Args:
            x: (N, H, W, I).
            weights: "first" (1, 1, I, C), "gamma" and "beta" (C,), and "kernel" of `following`.
        """

        @tf.custom_gradient
        def run(x, *values):
            named = dict(zip(weights, values))
            e, scaling = _EXPANSION.forward(x, named["first"]), (named["gamma"], named["beta"])
            statistics = lean_statistics.measured(e, *scaling, self.epsilon, self.pivot, self.group)
            scaling = statistics.scaling(*scaling, self.epsilon)
            h = lean_passes.activated(self.activation, e, *scaling)
            output = self.following.forward(h, named["kernel"])

            def gradient(d, *_):
                def first(d):
                    found = self._backward(d, x, e, named, statistics)
                    return [found[name] for name in ("x", *weights)]

                return derivable(first, self._whole().plain, d, x, named)

            return (output, statistics.mean, statistics.variance), gradient

        return run(x, *weights.values())

    def _whole(self):
        return Unit(
            self.epsilon, self.activation, self.following, None, _EXPANSION, group=self.group
        )

    def _backward(self, d, x, e, weights, statistics):
        """Returns the gradients of x and of the weights, by name."""
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        narrow = Narrow(x, tf.cast(weights["first"][0, 0], scaling[0].dtype))
        found, last = [], ()
        for channels in self._pieces(e):
            piece = e[..., channels]
            if self.again:
                d, x, *_ = held_back(d, x, *last)  # and for the piece before
                piece = _EXPANSION.forward(x, weights["first"][..., channels])
            last = self._of_piece(d[..., channels], piece, narrow, weights, scaling, channels)
            found.append(last)
        of_x, of_kernel, centred, b = zip(*found)
        centred, b = tf.concat(centred, 1), tf.concat(b, 0)
        others = narrow.gradients(centred, b, statistics, weights["gamma"], self.epsilon)
        factor = tf.cast(others["x factor"], x.dtype)[tf.newaxis, tf.newaxis]
        less = _EXPANSION.forward(tf.cast(narrow.centred, x.dtype), factor)
        of_x = tf.add_n([tf.cast(each, b.dtype) for each in (*of_x, -less)]) - others["x shift"]
        return {
            "x": tf.cast(of_x, x.dtype),
            "first": tf.cast(others["weight"], x.dtype)[tf.newaxis, tf.newaxis],
            "gamma": others["gamma"],
            "beta": b,
            "kernel": tf.concat(of_kernel, 2),
        }

    def _of_piece(self, d, e, narrow, weights, scaling, channels):
        """Returns what some channels add to the gradient of x, and their part of the others'."""
        factor, shift = (each[channels] for each in scaling)
        kernel = weights["kernel"][:, :, channels]
        h = lean_passes.activated(self.activation, e, factor, shift)
        of_kernel = self.following.to_kernel(h, d, kernel)
        dh = self.following.to_input(d, kernel, e)
        dy = lean_passes.slope(self.activation, e, factor, shift, dh)
        back = tf.cast(narrow.weight[:, channels] * factor, dy.dtype)[tf.newaxis, tf.newaxis]
        of_x = _EXPANSION.to_input(dy, back, narrow.centred)
        dy = tf.cast(dy, factor.dtype)
        return of_x, of_kernel, product(narrow.centred, dy), tf.reduce_sum(dy, (0, 1, 2))

    def _pieces(self, e):
        """The channels of each piece: all, of a map that is kept, or small, or of unknown sides."""
        channels = e.shape[-1]
        if not self.again or not is_large(e, channels):
            return [slice(0, channels)]
        most = _TILE * math.ceil(channels / PIECES / _TILE)
        return [slice(first, first + most) for first in range(0, channels, most)]


def pays(x: tf.Tensor, channels: int) -> bool:
    """Whether a kept wide map of the sides of x is better a part of a `Widening`.

    In float32 any is: dy goes into convolutions alone, and a TPU holds it in bfloat16, to which
    they round it anyway.

    Args:
        x: the narrow map, (N, H, W, I).
        channels: of the wide one.
    """
    return x.dtype.size >= 4 or is_large(x, channels)


def is_large(x: tf.Tensor, channels: int) -> bool:
    """Whether a map of the sides of x (N, H, W, I) with so many channels is; unknown ones are not.

    Args:
        x: a map.
        channels: of the other.
    """
    sides = x.shape[:-1]
    return None not in sides and math.prod(sides) * channels * x.dtype.size >= LARGE
