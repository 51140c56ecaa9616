"""What is a block of an EfficientNet?

MBConv and FusedMBConv differ in the description of their convolutions alone.
"""

from collections.abc import Callable
from typing import ClassVar

import keras

from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.variants import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    Convolution,
    describe_fused_mbconv,
    describe_mbconv,
)


class _InvertedBottleneck(ConvolutionalBlock):
    """A block that is described by a few numbers."""

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
        super().__init__(
            skip=skip,
            drop_connect_rate=drop_connect_rate,
            batch_norm=batch_norm,
            batch_norm_momentum=batch_norm_momentum,
            batch_norm_epsilon=batch_norm_epsilon,
            sync_replicas=sync_replicas,
            **kwargs,
        )
        self.filters = int(filters)
        self.expanded_filters = int(expanded_filters)
        self.kernel_size = int(kernel_size)
        self.strides = int(strides)
        self.se_filters = int(se_filters)
        self.activation = activation
        self.dilation_rate = int(dilation_rate)
        self.padding = padding
        keras.activations.get(activation)  # refuses one that is unknown

    def describe(self, input_filters: int) -> tuple[Convolution, ...]:
        return self._describe(
            input_filters,
            self.expanded_filters,
            self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            se_filters=self.se_filters,
            activation=self.activation,
            padding=self.padding,
        )

    def get_config(self) -> dict:
        names = (
            "filters",
            "expanded_filters",
            "kernel_size",
            "strides",
            "se_filters",
            "activation",
            "dilation_rate",
            "padding",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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
