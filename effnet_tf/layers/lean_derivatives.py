"""How has a gradient that is written down the right gradient again?

What a unit remembers of its forward pass are constants for a tape. Where one is still open around a
gradient, for a penalty on it or for curvature, the second derivative is that of the same function
in TensorFlow's operations.
"""

from collections.abc import Callable, Mapping

import tensorflow as tf
from tensorflow.python.eager.record import could_possibly_record


def derivable(
    first: Callable[[tf.Tensor], list[tf.Tensor]],
    plain: Callable[[tf.Tensor, Mapping[str, tf.Tensor]], tf.Tensor],
    d: tf.Tensor,
    x: tf.Tensor,
    weights: Mapping[str, tf.Tensor],
) -> list[tf.Tensor]:
    """Returns the gradients of x and the weights, such that they have the right gradients again.

    Args:
        first: d -> the gradients of x and the weights, in order.
        plain: (x, weights) -> the output, in operations that autodiff knows.
        d: the gradient of the output.
        x: the input.
        weights: by name.
    """
    if not could_possibly_record():
        return first(d)

    @tf.custom_gradient
    def once(d, *inputs):
        def second(*of_gradients):
            with tf.GradientTape() as outer:
                outer.watch([d, *inputs])
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    output = plain(inputs[0], dict(zip(weights, inputs[1:])))
                found = inner.gradient(output, inputs, d)
            return outer.gradient(found, [d, *inputs], of_gradients)

        return first(d), second

    return once(d, x, *weights.values())
