"""What is computed number by number between two convolutions, forward and backward?

Batch norm with known statistics is x * factor + shift for each channel, and an activation follows.
Each function here is one pass over a map: XLA compiles it by itself, for TensorFlow's operations
would go over the map once for every sign in the formula. The slope of an activation is the one
that TensorFlow derives.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from effnet_tf.layers.lean_places import under_xla

# Those that treat every number by itself; more can be added. None is linear, too.
ACTIVATIONS = (
    *("swish", "silu", "relu", "relu6", "hard_swish", "hard_silu", "hard_sigmoid", "sigmoid"),
    *("tanh", "gelu", "elu", "selu", "softplus", "mish", "linear"),
)


def knows(activation: str | None) -> bool:
    """Whether maps with this activation can be treated here."""
    return activation is None or activation in ACTIVATIONS


def _pass(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Compiles a function, except where it becomes part of something that is compiled anyway.

    Eager programs get it as it is: each shape of theirs would be compiled before its first use.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*arguments):
        if tf.executing_eagerly() or under_xla():
            return function(*arguments)
        return compiled(*arguments)

    return call


def _normal(x, factor, shift):
    return tf.cast(x, factor.dtype) * factor + shift


def _activate(activation, y):
    return keras.activations.get(activation)(y)


def _slope(activation, y, d):
    """The gradient of y, where d is that of its activation."""
    with tf.GradientTape() as tape:
        tape.watch(y)
        h = _activate(activation, y)
    return tape.gradient(h, y, d)


@_pass
def activated(
    activation: str | None, x: tf.Tensor, factor: tf.Tensor, shift: tf.Tensor
) -> tf.Tensor:
    """Returns h = activation(x * factor + shift), (N, H, W, C); factor and shift are (C,)."""
    return tf.cast(_activate(activation, _normal(x, factor, shift)), x.dtype)


@_pass
def less(y: tf.Tensor, x: tf.Tensor, factor: tf.Tensor, shift: tf.Tensor) -> tf.Tensor:
    """Returns y - (x * factor + shift), of two maps (N, H, W, C); factor and shift are (C,)."""
    return y - _normal(x, factor, shift)


@_pass
def scaled(x: tf.Tensor, mean: tf.Tensor, inverse: tf.Tensor) -> tf.Tensor:
    """Returns (x - mean) * inverse, of images (N, H, W, C) of any type, in that of the others."""
    return (tf.cast(x, mean.dtype) - mean) * inverse


@_pass
def gated(h: tf.Tensor, gate: tf.Tensor) -> tf.Tensor:
    """Returns h * gate, of a map (N, H, W, C) and gates (N, C)."""
    return h * tf.cast(gate, h.dtype)[:, tf.newaxis, tf.newaxis]


@_pass
def gate_gradient(d: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
    """Returns the gradient of the gates (N, C), where d is that of h * gate."""
    return tf.reduce_sum(d * h, (1, 2))


@_pass
def slope(
    activation: str | None, x: tf.Tensor, factor: tf.Tensor, shift: tf.Tensor, d: tf.Tensor
) -> tf.Tensor:
    """Returns the gradient of y = x * factor + shift, where d is that of activation(y)."""
    y = _normal(x, factor, shift)
    return tf.cast(_slope(activation, y, tf.cast(d, y.dtype)), x.dtype)


def gated_sums(
    activation: str | None,
    x: tf.Tensor,
    factor: tf.Tensor,
    shift: tf.Tensor,
    u: tf.Tensor,
    z: tf.Tensor,
) -> list[tf.Tensor]:
    """Returns five sums over pixels, each (N, C), of which batch norm's own follow.

    With h = activation(y), s its slope, both of y = x * factor + shift, they are the sums of
    u h, u s, s, u s z and s z. XLA takes all of them in the pass that makes u.

    Args:
        activation: its name; None for none.
        x: (N, H, W, C).
        factor: (C,).
        shift: (C,).
        u: (N, H, W, C), the gradient of h * gate.
        z: (N, H, W, C), the normalised map, before gamma and beta.
    """
    y, u = _normal(x, factor, shift), tf.cast(u, factor.dtype)
    slope, h = _slope(activation, y, tf.ones_like(y)), _activate(activation, y)
    terms = (u * h, u * slope, slope, u * slope * z, slope * z)
    return [tf.reduce_sum(each, (1, 2)) for each in terms]


@_pass
def gated_slope(
    activation: str | None,
    x: tf.Tensor,
    factor: tf.Tensor,
    shift: tf.Tensor,
    d: tf.Tensor,
    gate: tf.Tensor,
    of_mean: tf.Tensor,
) -> tf.Tensor:
    """As `slope`, where d is the gradient of activation(y) * gate, and the mean has one, too.

    Args:
        activation: its name; None for none.
        x: (N, H, W, C).
        factor: (C,).
        shift: (C,).
        d: (N, H, W, C).
        gate: (N, C).
        of_mean: (N, C), what the mean over the map adds to the gradient of every pixel.
    """
    y = _normal(x, factor, shift)
    gate, of_mean = (tf.cast(each, y.dtype)[:, tf.newaxis, tf.newaxis] for each in (gate, of_mean))
    return tf.cast(_slope(activation, y, tf.cast(d, y.dtype) * gate + of_mean), x.dtype)
