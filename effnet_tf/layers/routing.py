"""How much of each expert does an image get?"""

import keras
import tensorflow as tf
from keras import ops

from effnet_tf.errors import InputError
from effnet_tf.layers.shapes import Shape, channels_of

WEIGHING = "weigh_experts"  # scope of what is counted apart, see `models/counting.py`


@keras.saving.register_keras_serializable(package="effnet_tf")
class Routing(keras.layers.Layer):
    """Says how much of each expert's kernel an image gets, from the means of its channels.

    Args:
        experts: how many there are, at least 1.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float feature map.

    Input shape:
        (N, H, W, C)

    Output shape:
        (N, experts), each in [0, 1]; their sum is not 1.

    Example:
        >>> Routing(4)(np.ones((2, 7, 7, 16))).shape
        TensorShape([2, 4])
    """

    def __init__(self, experts: int, **kwargs):
        super().__init__(**kwargs)
        self.experts = checked_experts(experts)

    def build(self, input_shape: Shape) -> None:
        shape = (channels_of(input_shape), self.experts)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=shape[1:], initializer="zeros")
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # The mean over thousands of pixels needs float32 at least.
        precise = keras.backend.result_type(inputs.dtype, "float32")
        mean = ops.cast(ops.mean(ops.cast(inputs, precise), axis=(1, 2)), inputs.dtype)
        with tf.name_scope(WEIGHING):
            scores = ops.matmul(mean, self.kernel)
        # The sigmoid, by tanh: on a CPU TensorFlow's own is 4e-8 too small in the mean, which over
        # eight blocks adds as much to the logits' error as all other rounding.
        halved = ops.cast(scores + self.bias, precise) / 2
        return ops.cast((ops.tanh(halved) + 1) / 2, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape[0], self.experts

    def get_config(self) -> dict:
        return {**super().get_config(), "experts": self.experts}


def checked_experts(experts: int) -> int:
    """Returns a number of experts; raises InputError where it is below 1."""
    if experts < 1:
        raise InputError(f"experts is {experts}; there must be at least 1.")
    return int(experts)
