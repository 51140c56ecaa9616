"""Which map need not be kept, because it can be computed from one that is kept anyway?

A batch norm keeps its input x for its gradient. Its output, and that of an activation after it, are
functions of x with two numbers per channel: who needs one of them for a gradient of its own can
compute it then. Where batch norm, activation and the convolution after them are not one unit, as
at the stem and the head, whose layers users look up by name, each notes what its output is made of.

So do the layers before the stem's batch norm. Images of three channels are there as long as the
step is; normalised, and after the stem's convolution, they are among the largest maps of a network,
and cost 1 % of a step.
"""

from typing import NamedTuple, Protocol

import tensorflow as tf

from effnet_tf.layers import lean_passes
from effnet_tf.layers.lean_convolutions import LeanConvolution

_NOTE = "_effnet_tf_source"


class Origin(Protocol):
    """What a map was made of."""

    def made(self, d: tf.Tensor) -> tf.Tensor:
        """Returns the map, computed when d is there."""


class Source(NamedTuple):
    """Of a map that is activation(x * factor + shift).

    Attributes:
        x: (N, H, W, C), which is kept for another gradient, or has an origin itself.
        factor: (C,).
        shift: (C,).
        activation: one that `lean_passes.knows`.
    """

    x: tf.Tensor
    factor: tf.Tensor
    shift: tf.Tensor
    activation: str | None = None

    def made(self, d: tf.Tensor) -> tf.Tensor:
        x = again(self.x, d)
        return lean_passes.activated(self.activation, x, self.factor, self.shift)


class Pixels(NamedTuple):
    """Of normalised images, which are (x - mean) * inverse.

    Attributes:
        x: (N, H, W, C), of any type.
        mean: (C,).
        inverse: (C,).
        dtype: of the map.
    """

    x: tf.Tensor
    mean: tf.Tensor
    inverse: tf.Tensor
    dtype: str

    def made(self, d: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([d]):
            pixels = lean_passes.scaled(tf.identity(self.x), self.mean, self.inverse)
        return tf.cast(pixels, self.dtype)


class Convolved:
    """Of the output of a convolution.

    Args:
        x: (N, H, W, C), which has an origin.
        kernel: of the convolution.
        convolution: what it computes.
    """

    def __init__(self, x: tf.Tensor, kernel: tf.Tensor, convolution: LeanConvolution):
        self._x, self._kernel, self._convolution = x, kernel, convolution
        self._shared: dict[tf.Graph, tf.Tensor] = {}

    def made(self, d: tf.Tensor) -> tf.Tensor:
        return self._convolution.forward(again(self._x, d), self._kernel)

    def shared(self, d: tf.Tensor) -> tf.Tensor:
        """Returns the map, computed when the first d of those who share it is there."""
        if tf.executing_eagerly():  # one that is remembered would not go with its gradient
            return self.made(d)
        graph = tf.compat.v1.get_default_graph()
        if graph not in self._shared:
            self._shared[graph] = self.made(d)
        return self._shared[graph]


def note(y: tf.Tensor, origin: Origin | None) -> None:
    """Notes at a map what it was made of, if known; who gets this very tensor can read it."""
    setattr(y, _NOTE, origin)


def source_of(y: tf.Tensor) -> Origin | None:
    """Returns what a map was made of, if anybody noted it."""
    return getattr(y, _NOTE, None)


def again(y: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    """Returns a map once more when d is there, the gradient that it is needed for.

    It is computed from its origin, so that it need not be kept; or it is the map itself.
    """
    origin = source_of(y)
    if origin is not None:
        return origin.made(d)
    with tf.control_dependencies([d]):
        return tf.identity(y)


def again_for_both(x: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    """As `again`, for two gradients in a row: an activation's and that of the batch norm before."""
    origin = source_of(x)
    return origin.shared(d) if isinstance(origin, Convolved) else again(x, d)
