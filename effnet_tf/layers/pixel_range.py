"""Are they pixels in [0, 255] at all, what a network is shown first?"""

import warnings

import keras
import tensorflow as tf

_WHITE = 255.0
_INTENDED = "or build the model with preprocessing=False if it is intended."


class PixelRange:
    """Warns, once, of images that look as if they were scaled otherwise.

    It looks at the first batch that is not of one colour: in eager mode, and in the loops
    of Keras' fit, evaluate and predict. Not under XLA, nor in a tf.function of the user's
    own: what is exported, or compiled for a TPU, must not call back to Python.
    """

    def __init__(self) -> None:
        self._seen = False

    def look(self, pixels: tf.Tensor, std: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the pixels; has them judged when they are computed.

        Args:
            pixels: images of any shape and dtype of numbers.
            std: (C,) float, by which the network divides them. Where it shows that the
                network does not take [0, 255], nothing is said.
        """
        if self._seen:
            return pixels
        if tf.executing_eagerly():
            self._judge(*_facts(pixels, std))
        elif _in_keras_loop():
            seen = tf.numpy_function(self._judge, _facts(pixels, std), [])
            with tf.control_dependencies([seen]):
                return tf.identity(pixels)
        return pixels

    def _judge(self, low, high, whole, takes_pixels):
        if self._seen or high <= low:  # images of one colour say nothing
            return
        self._seen = True
        if not takes_pixels:
            return
        seen = f"The first images lie between {low:.6g} and {high:.6g}, as if"
        if high > 2 * _WHITE or low < -_WHITE:  # resizing overshoots by some 20 %
            warnings.warn(
                f"{seen} they had more than 8 bits, but this model takes pixels in [0, 255]: "
                f"scale them (16 bits: divide by 257), {_INTENDED}",
                stacklevel=2,
            )
        elif high <= 5 and low >= -5 and not whole:
            warnings.warn(
                f"{seen} {_apparent_scaling(low, high)}, but this model takes pixels in [0, 255] "
                f"and normalises them itself. Leave out that step, {_INTENDED}",
                stacklevel=2,
            )


def watch_range(layer: keras.layers.Rescaling) -> None:
    """Lets this layer of Keras' look at its first images as `PixelRange` does.

    It holds for this very instance, and no saved file knows of it.

    Args:
        layer: built; takes pixels in [0, 255].
    """
    call, pixel_range = layer.call, PixelRange()
    layer.call = lambda inputs: call(pixel_range.look(inputs))


def _facts(pixels, std):
    """Returns the arguments of `PixelRange._judge`, each () of float or bool."""
    low = tf.cast(tf.reduce_min(pixels), tf.float32)
    high = tf.cast(tf.reduce_max(pixels), tf.float32)
    whole = tf.constant(True)
    if pixels.dtype.is_floating:
        # A functional model casts bytes to floats before any layer. Of zeros and ones alone
        # there is no telling: they pass for scaled.
        whole = (high > 1) & tf.reduce_all(tf.equal(pixels, tf.round(pixels)))
    takes_pixels = tf.constant(True)
    if std is not None:
        largest = tf.reduce_max(std)
        takes_pixels = (largest > 10) & (largest <= _WHITE)
    return low, high, whole, takes_pixels


def _apparent_scaling(low, high):
    if low >= 0 and high <= 1:
        return "scaled to [0, 1]"
    if low >= -1 and high <= 1:
        return "scaled to [-1, 1]"
    return "normalised already"


def _in_keras_loop():
    """Whether a step of fit, evaluate or predict is being traced, and not for XLA."""
    graph, inside = tf.compat.v1.get_default_graph(), False
    while graph is not None:
        context = graph._get_control_flow_context()
        if context is not None and context.IsXLAContext():
            return False
        inside |= getattr(graph, "name", "").startswith(("one_step_on_", "multi_step_on_"))
        graph = getattr(graph, "outer_graph", None)
    return inside
