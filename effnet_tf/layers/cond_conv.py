"""How is a map convolved by kernels that are mixed of experts, for each image its own?

CondConv: Yang et al., arXiv 1904.04971. Its code, tensorflow/tpu models/official/efficientnet/
condconv/condconv_layers.py, takes the images of a batch one by one, and needs to know how many they
are. Here all of them are one product of matrices, or channels of one map.
"""

import math

import keras
import tensorflow as tf
from keras import ops

from effnet_tf.errors import InputError
from effnet_tf.layers import first_kernels
from effnet_tf.layers.routing import Routing, checked_experts
from effnet_tf.layers.shapes import Shape, channels_of, output_side
from effnet_tf.variants import ROUTING, Convolution

MIXING = "mix_experts"  # scope of what is counted apart, see `models/counting.py`


class MixedConvolution(keras.layers.Layer):
    """What `CondConv` and `DepthwiseCondConv` share: kernels, their mixture, a bias."""

    data_format = "channels_last"

    def __init__(
        self,
        kernel_size: int,
        experts: int,
        strides: int = 1,
        padding: str = "same",
        dilation_rate: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        own_routing: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.experts = checked_experts(experts)
        self.kernel_size = (int(kernel_size),) * 2
        self.strides = (int(strides),) * 2
        self.dilation_rate = (int(dilation_rate),) * 2
        self.padding = padding
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        self.own_routing = bool(own_routing)

    def describe(self, channels: int) -> Convolution:
        """Returns the convolution with the kernel of one image, on maps of so many channels."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> None:
        described = self.describe(channels_of(input_shape))
        self.one = described.mixed_shape
        # Of each expert as of an ordinary kernel, see `conv_initializer`.
        deviation = math.sqrt(2 / (math.prod(self.one[:2]) * self.one[3]))
        seed = keras.initializers.RandomNormal().seed  # Keras' next
        self.kernel = self.add_weight(
            name="kernel",
            shape=described.kernel_shape,
            initializer=first_kernels.normal(deviation, seed),
        )
        if self.use_bias:
            shape = (described.filters,)
            self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")
        if self.own_routing:
            self.routing = Routing(self.experts, name=ROUTING, dtype=self.dtype_policy)
            self.routing.build(input_shape)
        self.built = True

    def call(self, inputs: tf.Tensor, routing: tf.Tensor | None = None) -> tf.Tensor:
        if self.own_routing:
            routing = self.routing(inputs)
        elif routing is None:
            raise InputError(
                f"'{self.name}' has no routing of its own: call it on a map and the weights of "
                "its experts, (N, experts), or make it with own_routing=True."
            )
        x = self.convolve(inputs, routing)
        if self.use_bias:
            x = x + self.bias
        return self.activation(x)

    def convolve(self, inputs: tf.Tensor, routing: tf.Tensor) -> tf.Tensor:
        """Returns a map (N, H', W', F) of one (N, H, W, C) and of weights (N, experts)."""
        raise NotImplementedError

    def mixed(self, routing: tf.Tensor) -> tf.Tensor:
        """Returns the kernels of the images, (N, numbers), for weights (N, experts)."""
        with tf.name_scope(MIXING):
            return ops.matmul(routing, self.kernel)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, height, width, channels = input_shape
        described = self.describe(channels_of(input_shape))
        if self.padding == "valid":
            lost = (self.kernel_size[0] - 1) * self.dilation_rate[0]
            height, width = (side if side is None else side - lost for side in (height, width))
        sides = output_side(height, described), output_side(width, described)
        return n, *sides, described.filters

    def get_config(self) -> dict:
        names = ("experts", "padding", "use_bias", "own_routing")
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        for name in ("kernel_size", "strides", "dilation_rate"):
            config[name] = getattr(self, name)[0]
        config["activation"] = keras.activations.serialize(self.activation)
        return config

    def _described(self, kind, channels, filters):
        return Convolution(
            self.name,
            kind,
            channels,
            filters,
            self.kernel_size[0],
            self.strides[0],
            self.dilation_rate[0],
            experts=self.experts,
        )


@keras.saving.register_keras_serializable(package="effnet_tf")
class CondConv(MixedConvolution):
    """A convolution with a kernel of its own for each image, mixed of those of experts.

    Any number of images, known beforehand or not, is a batch.

    Args:
        filters: channels out.
        kernel_size: side of the kernel, in pixels.
        experts: kernels that are mixed, at least 1.
        strides: in pixels.
        padding: "same" or "valid".
        dilation_rate: spacing of the kernel's taps, in pixels.
        activation: name of the activation; None for none.
        use_bias: whether it adds a bias, which is that of all images.
        own_routing: whether it weighs the experts itself, by its input; else it is called on
            their weights, too, as those of a block are that share one `Routing`.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float feature map.
        routing: weights of the experts for each image, (N, experts); without `own_routing`.

    Input shape:
        (N, H, W, C)

    Output shape:
        (N, H', W', filters)

    Raises:
        InputError: there is no expert; or weights are missing.

    Example:
        >>> CondConv(24, 3, experts=4, strides=2)(np.ones((2, 8, 8, 16))).shape
        TensorShape([2, 4, 4, 24])
    """

    def __init__(self, filters: int, kernel_size: int, experts: int, strides: int = 1, **kwargs):
        super().__init__(kernel_size, experts, strides, **kwargs)
        self.filters = int(filters)

    def describe(self, channels: int) -> Convolution:
        return self._described("full", channels, self.filters)

    def convolve(self, inputs: tf.Tensor, routing: tf.Tensor) -> tf.Tensor:
        """See `MixedConvolution.convolve`."""
        taps = math.prod(self.one[:3])
        kernels = ops.reshape(self.mixed(routing), (-1, taps, self.filters))
        patches = self._patches(inputs)
        _, height, width, _ = ops.shape(patches)
        rows = ops.reshape(patches, (-1, height * width, taps))
        return ops.reshape(ops.matmul(rows, kernels), (-1, height, width, self.filters))

    def _patches(self, inputs):
        """Returns what each pixel of the output is computed from, (N, H', W', k * k * C)."""
        if self.kernel_size == self.strides == (1, 1):
            return inputs
        return tf.image.extract_patches(
            inputs,
            (1, *self.kernel_size, 1),
            (1, *self.strides, 1),
            (1, *self.dilation_rate, 1),
            self.padding.upper(),
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="effnet_tf")
class DepthwiseCondConv(MixedConvolution):
    """A depthwise convolution with kernels of its own for each image, mixed of those of experts.

    Any number of images, known beforehand or not, is a batch.

    Args:
        kernel_size: side of the kernel, in pixels.
        experts: kernels that are mixed, at least 1.
        strides: in pixels.
        **kwargs: the others of `CondConv`: padding, dilation_rate, activation, use_bias,
            own_routing; and of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float feature map.
        routing: weights of the experts for each image, (N, experts); without `own_routing`.

    Input shape:
        (N, H, W, C)

    Output shape:
        (N, H', W', C)

    Attributes:
        mixes_outputs: whether all experts convolve, and their outputs are mixed: the same to
            rounding and more work, for files whose kernels must be constants.

    Raises:
        InputError: there is no expert; or weights are missing.

    Example:
        >>> DepthwiseCondConv(3, experts=4)(np.ones((2, 8, 8, 16))).shape
        TensorShape([2, 8, 8, 16])
    """

    def __init__(self, kernel_size: int, experts: int, strides: int = 1, **kwargs):
        super().__init__(kernel_size, experts, strides, **kwargs)
        self.mixes_outputs = False

    def describe(self, channels: int) -> Convolution:
        return self._described("depthwise", channels, channels)

    def convolve(self, inputs: tf.Tensor, routing: tf.Tensor) -> tf.Tensor:
        """See `MixedConvolution.convolve`."""
        # TensorFlow dilates only where channels are known, which here depend on the images.
        if self.mixes_outputs or (self.dilation_rate != (1, 1) and inputs.shape[0] is None):
            return self._mixed_outputs(inputs, routing)
        n, height, width, channels = ops.shape(inputs)
        # The images become channels of one, with the kernels of all of them.
        maps = ops.reshape(ops.transpose(inputs, (1, 2, 0, 3)), (1, height, width, n * channels))
        kernels = ops.reshape(self.mixed(routing), (n, *self.one[:3]))
        kernels = ops.transpose(kernels, (1, 2, 0, 3))
        x = self._depthwise(maps, ops.reshape(kernels, (*self.one[:2], n * channels, 1)))
        _, height, width, _ = ops.shape(x)
        return ops.transpose(ops.reshape(x, (height, width, n, channels)), (2, 0, 1, 3))

    def _mixed_outputs(self, inputs, routing):
        kernels = ops.reshape(self.kernel, (self.experts, *self.one[:3]))
        x = self._depthwise(inputs, ops.transpose(kernels, (1, 2, 3, 0)))
        _, height, width, _ = ops.shape(x)
        by_expert = ops.reshape(x, (-1, height * width * self.one[2], self.experts))
        mixed = ops.matmul(by_expert, ops.reshape(routing, (-1, self.experts, 1)))
        return ops.reshape(mixed, (-1, height, width, self.one[2]))

    def _depthwise(self, x, kernel):
        return tf.nn.depthwise_conv2d(
            x, kernel, (1, *self.strides, 1), self.padding.upper(), dilations=self.dilation_rate
        )


def mixed_layer(convolution: Convolution, **options) -> MixedConvolution:
    """Returns the layer of a convolution with experts, which gets their weights when called.

    Args:
        convolution: what it is.
        **options: of `CondConv`: padding, dilation_rate, activation, use_bias; name and dtype.
    """
    size = convolution.kernel_size, convolution.experts, convolution.strides
    if convolution.kind == "depthwise":
        return DepthwiseCondConv(*size, own_routing=False, **options)
    return CondConv(convolution.filters, *size, own_routing=False, **options)
