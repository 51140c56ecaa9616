"""What is a block of an EfficientNet?

MBConv and FusedMBConv differ in the description of their convolutions alone; another kind of
block is another description in `variants/convolutions.py`, and a class here.
"""

from collections.abc import Callable
from typing import ClassVar

import keras
import tensorflow as tf
from keras import ops

from effnet_tf.layers.convolutions import conv_layer
from effnet_tf.layers.norm import batch_norm as new_batch_norm
from effnet_tf.layers.norm import check_batch_norm_mode
from effnet_tf.layers.shapes import Shape, channels_of, output_side
from effnet_tf.layers.squeeze_excite import SqueezeExcite
from effnet_tf.layers.stochastic import DropConnect
from effnet_tf.variants import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    Convolution,
    describe_fused_mbconv,
    describe_mbconv,
)


class _InvertedBottleneck(keras.layers.Layer):
    """A block: convolutions in a row, squeeze-and-excite among them, and the residual."""

    _describe: ClassVar[Callable[..., tuple[Convolution, ...]]]  # of variants/convolutions.py

    def __init__(
        self,
        filters: int,
        expanded_filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        se_filters: int = 0,
        drop_connect_rate: float = 0.0,
        activation: str = "swish",
        skip: bool = True,
        dilation_rate: int = 1,
        batch_norm: str = "trainable",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        batch_norm_epsilon: float = BATCH_NORM_EPSILON,
        sync_replicas: int = 1,
        padding: str = "same",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_batch_norm_mode(batch_norm)
        self.filters = int(filters)
        self.expanded_filters = int(expanded_filters)
        self.kernel_size = int(kernel_size)
        self.strides = int(strides)
        self.se_filters = int(se_filters)
        self.drop_connect_rate = float(drop_connect_rate)
        self.activation = activation
        self.skip = bool(skip)
        self.dilation_rate = int(dilation_rate)
        self._batch_norm = batch_norm
        self._batch_norm_momentum = float(batch_norm_momentum)
        self.batch_norm_epsilon = float(batch_norm_epsilon)
        self._sync_replicas = int(sync_replicas)
        self.padding = padding
        self._activate = keras.activations.get(activation)
        self._input_filters: int | None = None  # known once it is built

    @property
    def batch_norm(self) -> str:
        """The mode of the block's batch norms, see `BatchNorm`."""
        return self._batch_norm

    @batch_norm.setter
    def batch_norm(self, mode: str) -> None:
        check_batch_norm_mode(mode)
        self._batch_norm = mode
        self._apply_batch_norm()

    @property
    def batch_norm_momentum(self) -> float:
        """The momentum of the block's batch norms: also one that was set in them."""
        if self.built:
            return self.project_bn.momentum
        return self._batch_norm_momentum

    def _batch_norms(self):
        names = (convolution.batch_norm for convolution in self.convolutions)
        return [getattr(self, name) for name in names if name is not None]

    def _apply_batch_norm(self):
        for layer in self._batch_norms():
            layer.mode = self._batch_norm

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """What the block consists of, in order, once it is built.

        Their layers are attributes of the same names, such as `expand_conv` and `expand_bn`;
        those of squeeze-and-excite are in `se`.
        """
        if self._input_filters is None:
            return ()
        return self._describe(
            self._input_filters,
            self.expanded_filters,
            self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            se_filters=self.se_filters,
            activation=self.activation,
            padding=self.padding,
        )

    def build(self, input_shape: Shape) -> None:
        self._input_filters = channels_of(input_shape)
        self.expand_conv = self.se = None  # not every block has them
        for convolution in self.convolutions:
            self._add_layers(convolution)
        self.adds_input = self.skip and self.strides == 1 and self._input_filters == self.filters
        self.drop_connect = DropConnect(
            self.drop_connect_rate, name="drop_connect", dtype=self.dtype_policy
        )
        # A block that was frozen before it was built, as one loaded from a file, hands that on.
        # (TensorFlow would skip self.trainable = self.trainable.)
        keras.layers.Layer.trainable.fset(self, self.trainable)
        self._apply_batch_norm()
        self.built = True

    def _add_layers(self, convolution):
        """Makes and builds what computes one convolution of the description."""
        dtype = self.dtype_policy
        if convolution.name == "se/reduce":
            self.se = SqueezeExcite(convolution.filters, self.activation, name="se", dtype=dtype)
            self.se.build((None, None, None, convolution.input_filters))
        elif convolution.batch_norm is not None:
            layer = conv_layer(convolution, dtype)
            layer.build((None, None, None, convolution.input_filters))
            setattr(self, convolution.name, layer)
            layer = new_batch_norm(
                convolution.batch_norm,
                dtype,
                momentum=self._batch_norm_momentum,
                epsilon=self.batch_norm_epsilon,
            )
            layer.sync_replicas = self._sync_replicas
            layer.build((None, None, None, convolution.filters))
            setattr(self, convolution.batch_norm, layer)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = inputs
        for convolution in self.convolutions:
            x = self._apply(convolution, x, training)
        if self.adds_input:
            x = self.drop_connect(x, training=training) + inputs
        return x

    def _apply(self, convolution, x, training):
        """Returns what one convolution, its batch norm and its activation make of a map."""
        if convolution.name == "se/reduce":
            return self.se(x)
        if convolution.name == "se/expand":
            return x  # `se` has done it
        zeros = convolution.explicit_padding
        if zeros:
            x = ops.pad(x, [(0, 0), (zeros, zeros), (zeros, zeros), (0, 0)])
        x = getattr(self, convolution.name)(x)
        x = getattr(self, convolution.batch_norm)(x, training=training)
        if convolution.activation is None:  # the projection is linear
            return x
        return self._activate(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, height, width, _ = input_shape
        return (
            n,
            output_side(height, self.strides),
            output_side(width, self.strides),
            self.filters,
        )

    def get_config(self) -> dict:
        names = (
            "filters",
            "expanded_filters",
            "kernel_size",
            "strides",
            "se_filters",
            "drop_connect_rate",
            "activation",
            "skip",
            "dilation_rate",
            "batch_norm",
            "batch_norm_momentum",
            "batch_norm_epsilon",
            "padding",
        )
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        config["sync_replicas"] = self._sync_replicas
        if self.built:  # what was set in the block's layers since then
            config["batch_norm"] = self.project_bn.mode
            config["sync_replicas"] = self.project_bn.sync_replicas
            config["drop_connect_rate"] = self.drop_connect.rate
        return config


@keras.saving.register_keras_serializable(package="effnet_tf")
class MBConv(_InvertedBottleneck):
    """Mobile inverted bottleneck: expand, depthwise, squeeze-excite, project, add.

    Sandler et al., arXiv 1801.04381, with squeeze-and-excite after the depthwise
    activation (Tan et al., arXiv 1807.11626) and drop-connect before the addition.

    Args:
        filters: output channels.
        expanded_filters: hidden channels; equal to the input's channels, there is no
            expansion.
        kernel_size: side of the depthwise kernel, in pixels.
        strides: 1 or 2.
        se_filters: channels after the squeeze; 0 for no squeeze-and-excite.
        drop_connect_rate: probability in [0, 1) that the residual branch of an image
            is dropped in training; without an addition nothing is dropped.
        activation: name of the activation.
        skip: add the input to the output where strides and channels allow it.
        dilation_rate: spacing of the kernel's taps, in pixels; needs strides of 1.
        batch_norm: mode of the batch norms, see `BatchNorm`.
        batch_norm_momentum: of their moving statistics, in [0, 1).
        batch_norm_epsilon: added to the variance in them, > 0.
        sync_replicas: how many replicas share the statistics of a batch, see `BatchNorm`.
        padding: "same" as TensorFlow's, or "symmetric" as PyTorch's.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float feature map.
        training: whether batch norm and drop-connect are in training mode.

    Input shape:
        (N, H, W, C)

    Output shape:
        (N, H / strides, W / strides, filters), rounded up.

    Example:
        >>> MBConv(24, 96, strides=2, se_filters=4)(np.ones((1, 8, 8, 16))).shape
        TensorShape([1, 4, 4, 24])
    """

    _describe = staticmethod(describe_mbconv)


@keras.saving.register_keras_serializable(package="effnet_tf")
class FusedMBConv(_InvertedBottleneck):
    """MBConv whose expansion and depthwise convolutions are one full convolution.

    The first blocks of EfficientNet-EdgeTPU (builder: edgetpu/, `conv_type` 1): the
    full convolution carries the stride.

    Args:
        filters: output channels.
        expanded_filters: hidden channels.
        kernel_size: side of the full convolution's kernel, in pixels.
        strides: 1 or 2.
        se_filters: channels after the squeeze; 0 for no squeeze-and-excite.
        drop_connect_rate: probability in [0, 1) that the residual branch of an image
            is dropped in training; without an addition nothing is dropped.
        activation: name of the activation.
        skip: add the input to the output where strides and channels allow it.
        dilation_rate: spacing of the kernel's taps, in pixels; needs strides of 1.
        batch_norm: mode of the batch norms, see `BatchNorm`.
        batch_norm_momentum: of their moving statistics, in [0, 1).
        batch_norm_epsilon: added to the variance in them, > 0.
        sync_replicas: how many replicas share the statistics of a batch, see `BatchNorm`.
        padding: "same" as TensorFlow's, or "symmetric" as PyTorch's.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float feature map.
        training: whether batch norm and drop-connect are in training mode.

    Input shape:
        (N, H, W, C)

    Output shape:
        (N, H / strides, W / strides, filters), rounded up.

    Example:
        >>> FusedMBConv(32, 192, strides=2)(np.ones((1, 8, 8, 24))).shape
        TensorShape([1, 4, 4, 32])
    """

    _describe = staticmethod(describe_fused_mbconv)
