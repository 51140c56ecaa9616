"""What is a block of an EfficientNet?

MBConv and FusedMBConv: plain numbers in, nothing here rounds, scales or knows a
variant. Feature maps are (N, H, W, C); padding is TensorFlow's SAME.
"""

import keras

from effnet_tf.layers import (
    DropConnect,
    SqueezeExcite,
    batch_norm,
    check_batch_norm_mode,
    conv,
    conv_initializer,
)


class _InvertedBottleneck(keras.layers.Layer):
    """What MBConv and FusedMBConv share: arguments, squeeze, projection, residual."""

    def __init__(
        self,
        filters,
        expanded_filters,
        kernel_size=3,
        strides=1,
        se_filters=0,
        drop_connect_rate=0.0,
        activation="swish",
        skip=True,
        dilation_rate=1,
        batch_norm="trainable",
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
        self._activate = keras.activations.get(activation)

    @property
    def batch_norm(self):
        """The mode of the block's batch norms, see `BatchNorm`."""
        return self._batch_norm

    @batch_norm.setter
    def batch_norm(self, mode):
        check_batch_norm_mode(mode)
        self._batch_norm = mode
        self._apply_batch_norm()

    def _apply_batch_norm(self):
        for name in ("expand_bn", "bn", "project_bn"):
            if hasattr(self, name):
                getattr(self, name).mode = self._batch_norm
                getattr(self, name).trainable = self.trainable

    def _build_expansion(self, input_shape):
        """Makes and builds the layers that lead to the hidden map."""
        raise NotImplementedError

    def build(self, input_shape):
        dtype = self.dtype_policy
        self._build_expansion(input_shape)
        hidden = (None, None, None, self.expanded_filters)
        self.se = None
        if self.se_filters:
            self.se = SqueezeExcite(self.se_filters, self.activation, name="se", dtype=dtype)
            self.se.build(hidden)
        self.project_conv = conv(self.filters, 1, 1, "project_conv", dtype)
        self.project_conv.build(hidden)
        self.project_bn = batch_norm("project_bn", dtype)
        self.project_bn.build((None, None, None, self.filters))
        self.adds_input = self.skip and self.strides == 1 and input_shape[-1] == self.filters
        self.drop_connect = DropConnect(self.drop_connect_rate, name="drop_connect", dtype=dtype)
        # A block that was frozen before it was built, as one loaded from a file, hands that on.
        # (TensorFlow would skip self.trainable = self.trainable.)
        keras.layers.Layer.trainable.fset(self, self.trainable)
        self._apply_batch_norm()
        self.built = True

    def _expand(self, inputs, training):
        """Returns the hidden map (N, H/s, W/s, expanded_filters)."""
        raise NotImplementedError

    def call(self, inputs, training=False):
        x = self._expand(inputs, training)
        if self.se is not None:
            x = self.se(x)
        x = self.project_bn(self.project_conv(x), training=training)  # linear: no activation
        return self.drop_connect(x, training=training) + inputs if self.adds_input else x

    def compute_output_shape(self, input_shape):
        n, height, width, _ = input_shape
        return (n, same(height, self.strides), same(width, self.strides), self.filters)

    def get_config(self):
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
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def same(size, strides):
    """Returns the side of a SAME convolution's output; None stays None."""
    return None if size is None else -(-size // strides)


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

    def _build_expansion(self, input_shape):
        dtype, channels = self.dtype_policy, input_shape[-1]
        hidden = (None, None, None, self.expanded_filters)
        self.expand_conv = None
        if self.expanded_filters != channels:
            self.expand_conv = conv(self.expanded_filters, 1, 1, "expand_conv", dtype)
            self.expand_conv.build((None, None, None, channels))
            self.expand_bn = batch_norm("expand_bn", dtype)
            self.expand_bn.build(hidden)
        self.dwconv = keras.layers.DepthwiseConv2D(
            self.kernel_size,
            self.strides,
            padding="same",
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
            use_bias=False,
            depthwise_initializer=conv_initializer(),
            name="dwconv",
            dtype=dtype,
        )
        self.dwconv.build(hidden)
        self.bn = batch_norm("bn", dtype)
        self.bn.build(hidden)

    def _expand(self, inputs, training):
        x = inputs
        if self.expand_conv is not None:
            x = self._activate(self.expand_bn(self.expand_conv(x), training=training))
        return self._activate(self.bn(self.dwconv(x), training=training))


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

    def _build_expansion(self, input_shape):
        dtype = self.dtype_policy
        self.expand_conv = conv(
            self.expanded_filters,
            self.kernel_size,
            self.strides,
            "expand_conv",
            dtype,
            dilation_rate=self.dilation_rate,
        )
        self.expand_conv.build((None, None, None, input_shape[-1]))
        self.expand_bn = batch_norm("expand_bn", dtype)
        self.expand_bn.build((None, None, None, self.expanded_filters))

    def _expand(self, inputs, training):
        return self._activate(self.expand_bn(self.expand_conv(inputs), training=training))
