"""Which map need not be kept, because it can be computed from one that is kept anyway?

A batch norm keeps its input x for its gradient. Its output, and that of an activation after it, are
functions of x with two numbers per channel: who needs one of them for a gradient of its own can
compute it then. Where batch norm, activation and the convolution after them are not one unit, as
at the stem and the head, whose layers users look up by name, each notes what its output is made of.
"""

from typing import NamedTuple

import tensorflow as tf

from effnet_tf.layers import lean_passes

_NOTE = "_effnet_tf_source"


class Source(NamedTuple):
    """What a map was made of: it is activation(x * factor + shift).

    Attributes:
        x: (N, H, W, C), which is kept for another gradient.
        factor: (C,).
        shift: (C,).
        activation: one that `lean_passes.knows`.
    """

    x: tf.Tensor
    factor: tf.Tensor
    shift: tf.Tensor
    activation: str | None = None


def note(y: tf.Tensor, source: Source | None) -> None:
    """Notes at a map what it was made of, if known; who gets this very tensor can read it."""
    setattr(y, _NOTE, source)


def source_of(y: tf.Tensor) -> Source | None:
    """Returns what a map was made of, if anybody noted it."""
    return getattr(y, _NOTE, None)


def again(y: tf.Tensor, d: tf.Tensor) -> tf.Tensor:
    """Returns a map once more when d is there, the gradient that it is needed for.

    It is computed from its source, so that it need not be kept; or it is the map itself.
    """
    source = source_of(y)
    with tf.control_dependencies([d]):
        if source is None:
            return tf.identity(y)
        return lean_passes.activated(source.activation, source.x, source.factor, source.shift)
