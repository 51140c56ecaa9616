"""How does a block weigh its channels?"""

import keras
import tensorflow as tf
from keras import ops

from effnet_tf.layers.convolutions import conv_layer
from effnet_tf.layers.shapes import Shape, channels_of
from effnet_tf.variants import describe_squeeze_excite


@keras.saving.register_keras_serializable(package="effnet_tf")
class SqueezeExcite(keras.layers.Layer):
    """Scales every channel by a gate computed from the mean of all channels.

    Hu et al., arXiv 1709.01507, with the original EfficientNet's choices: the squeeze
    width counts from the block's input, and its activation is the block's own.

    Args:
        filters: channels after the squeeze, at least 1.
        activation: name of the activation between the two 1x1 convolutions.
        gate: name of that after them.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float feature map.

    Input shape:
        (N, H, W, C)

    Output shape:
        (N, H, W, C)

    Example:
        >>> SqueezeExcite(4)(np.ones((2, 7, 7, 16))).shape
        TensorShape([2, 7, 7, 16])
    """

    def __init__(self, filters: int, activation: str = "swish", gate: str = "sigmoid", **kwargs):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.activation = activation
        self.gate = gate
        self._activate = keras.activations.get(activation)
        self._open = keras.activations.get(gate)

    def build(self, input_shape: Shape) -> None:
        reduce, expand = describe_squeeze_excite(
            channels_of(input_shape), self.filters, self.activation, self.gate
        )
        self.reduce = conv_layer(reduce, (None, 1, 1, reduce.input_filters), self.dtype_policy)
        self.expand = conv_layer(expand, (None, 1, 1, expand.input_filters), self.dtype_policy)
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        # The mean over thousands of pixels needs float32 at least; keepdims keeps the reshape,
        # and 64 operators of its shape arithmetic, out of TFLite.
        precise = keras.backend.result_type(inputs.dtype, "float32")
        mean = ops.mean(ops.cast(inputs, precise), axis=(1, 2), keepdims=True)
        squeezed = self._activate(self.reduce(ops.cast(mean, inputs.dtype)))
        return inputs * self._open(self.expand(squeezed))

    def by_name(self) -> dict[str, keras.Variable]:
        """Returns the weights that `gates` takes, in its order."""
        return {
            "reduce_kernel": self.reduce.kernel,
            "reduce_bias": self.reduce.bias,
            "expand_kernel": self.expand.kernel,
            "expand_bias": self.expand.bias,
        }

    def gates(
        self,
        mean: tf.Tensor,
        reduce_kernel: tf.Tensor,
        reduce_bias: tf.Tensor,
        expand_kernel: tf.Tensor,
        expand_bias: tf.Tensor,
    ) -> tf.Tensor:
        """Returns the gates (N, C) for means (N, C), by weights as tensors.

        Args:
            mean: of every channel, over the map.
            reduce_kernel: (1, 1, C, filters).
            reduce_bias: (filters,).
            expand_kernel: (1, 1, filters, C).
            expand_bias: (C,).
        """
        mean = tf.cast(mean, reduce_kernel.dtype)
        squeezed = self._activate(tf.matmul(mean, reduce_kernel[0, 0]) + reduce_bias)
        return self._open(tf.matmul(squeezed, expand_kernel[0, 0]) + expand_bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict:
        own = {"filters": self.filters, "activation": self.activation, "gate": self.gate}
        return {**super().get_config(), **own}
