"""How do the layers next to a batch norm keep nothing, where they are not one unit with it?

An activation, and a convolution after it, compute from the input of the batch norm what they need
for their gradients (`lean_sources.py`). In inference, and wherever batch norm is Keras' own, there
is no source: they are Keras' own, too.
"""

import keras
import tensorflow as tf

from effnet_tf.layers import lean_passes
from effnet_tf.layers.lean_convolutions import LeanConvolution, convolution
from effnet_tf.layers.lean_derivatives import derivable
from effnet_tf.layers.lean_sources import (
    Convolved,
    Pixels,
    Source,
    again,
    again_for_both,
    note,
    source_of,
)


def lighten(layer: keras.layers.Activation, activation: str | None) -> keras.layers.Activation:
    """Lets a layer keep no map if its input has a source, and returns it.

    It holds for this very instance, and no saved file knows of it.

    Args:
        layer: of Keras'.
        activation: the name of what it computes.
    """
    plain, function = layer.call, keras.activations.get(activation)

    def call(inputs: tf.Tensor) -> tf.Tensor:
        source = source_of(inputs)
        known = layer.activation is function and lean_passes.knows(activation)
        if not known or not isinstance(source, Source):
            return plain(inputs)
        return activated(inputs, source._replace(activation=activation))

    layer.call = call
    return layer


def forget(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Lets a convolution of pixels keep neither input nor output, and returns it.

    Both are computed again. It holds for this very instance, and no saved file knows of it.

    Args:
        layer: of Keras'.
    """
    plain = layer.call

    def call(inputs: tf.Tensor) -> tf.Tensor:
        known = convolution(layer)
        ends = layer.use_bias or layer.activation is not keras.activations.linear
        if known is None or ends or not isinstance(source_of(inputs), Pixels):
            return plain(inputs)
        kernel = tf.convert_to_tensor(layer.kernel)
        outputs = convolved(known, inputs, kernel)
        if known.has_gradients:
            note(outputs, Convolved(inputs, kernel, known))
        return outputs

    layer.call = call
    return layer


def activated(y: tf.Tensor, made: Source) -> tf.Tensor:
    """Returns the activation of y, the output (N, H, W, C) of a batch norm.

    Args:
        y: what the gradient goes to; it is not kept.
        made: what the activated map is made of.
    """

    @tf.custom_gradient
    def run(y):
        def gradient(d):
            def first(d):
                x = again_for_both(made.x, d)
                return [lean_passes.slope(made.activation, x, made.factor, made.shift, d)]

            def plain(y, _):
                return keras.activations.get(made.activation)(y)

            return derivable(first, plain, d, y, {})[0]

        return lean_passes.activated(made.activation, made.x, made.factor, made.shift), gradient

    h = run(y)
    note(h, made)
    return h


def convolved(kind: LeanConvolution, h: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the convolution (N, H', W', F) of a map, which is not kept if it has a source."""
    if source_of(h) is None or not kind.has_gradients:
        return kind(h, kernel)

    @tf.custom_gradient
    def run(x, kernel):
        def gradient(d):
            def first(d):
                x = again(h, d)
                of_kernel = kind.to_kernel(x, d, kernel)
                with tf.control_dependencies([of_kernel]):  # by then x has gone
                    return [kind.to_input(d, kernel, x), of_kernel]

            def plain(x, weights):
                return kind.forward(x, weights["kernel"])

            return derivable(first, plain, d, x, {"kernel": kernel})

        return kind.forward(x, kernel), gradient

    return run(h, kernel)
