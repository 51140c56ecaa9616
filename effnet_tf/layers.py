"""Which layers is an EfficientNet made of?

Keras 3 layers that take plain numbers: nothing here rounds, scales or knows a
variant. Feature maps are (N, H, W, C); padding is TensorFlow's SAME.
"""

import keras
import tensorflow as tf
from keras import ops

if keras.backend.backend() != "tensorflow":
    raise ImportError(f"effnet_tf needs Keras' TensorFlow backend, and Keras runs on "
                      f"{keras.backend.backend()} here: unset KERAS_BACKEND, or set it to "
                      "tensorflow, before importing keras.")

# builder (see config.py), efficientnet_builder.py: batch_norm_momentum, batch_norm_epsilon.
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3


def conv_initializer():
    """Untruncated normal of variance 2 / fan-out (builder: conv_kernel_initializer).

    keras.applications truncates it. For a depthwise kernel (k, k, C, 1) the fan-out is
    k * k, as in the original.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def dense_initializer():
    """Uniform in +-1/sqrt(classes) (builder: dense_kernel_initializer)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_out", "uniform")


def batch_norm(name, dtype=None):
    """A batch normalisation with the constants of the original."""
    return keras.layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name, dtype=dtype)


def conv(filters, kernel_size, strides, name, dtype=None, use_bias=False):
    """A SAME convolution with the original's initialiser, by default without bias."""
    return keras.layers.Conv2D(
        filters, kernel_size, strides, padding="same", data_format="channels_last",
        use_bias=use_bias, kernel_initializer=conv_initializer(), name=name, dtype=dtype)


@keras.saving.register_keras_serializable(package="effnet_tf")
class Normalize(keras.layers.Layer):
    """Maps pixels in [0, 255] to `(pixels - mean) / std`.

    It computes in float32 under every dtype policy and has no weights, so that a
    model is the same network whatever weights it was made with.

    Args:
        mean: one float per channel, in grey levels.
        std: one float per channel, in grey levels, not 0.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: uint8 or float images in [0, 255].

    Input shape:
        (N, H, W, C), with C the length of `mean`.

    Output shape:
        (N, H, W, C), in the compute dtype of the layer.

    Raises:
        ValueError: `mean` and `std` differ in length, or the input has other channels.

    Example:
        >>> Normalize([127.0], [128.0])(np.full((1, 2, 2, 1), 255, "uint8"))  # all 1.0
    """

    def __init__(self, mean, std, **kwargs):
        kwargs.setdefault("autocast", False)  # bfloat16 pixels would lose a grey level
        super().__init__(**kwargs)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]
        if len(self.mean) != len(self.std) or 0.0 in self.std:
            raise ValueError("Normalize needs a mean and a non-zero std per channel; received "
                             f"mean={self.mean} and std={self.std}.")

    def build(self, input_shape):
        if input_shape[-1] != len(self.mean):
            raise ValueError(f"Normalize has constants for {len(self.mean)} channels; received "
                             f"an input of shape {tuple(input_shape)}.")
        self.built = True

    def call(self, inputs):
        pixels = ops.cast(inputs, "float32")
        return ops.cast((pixels - self.mean) / self.std, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


@keras.saving.register_keras_serializable(package="effnet_tf")
class DropConnect(keras.layers.Layer):
    """Drops the whole input of some images in training: stochastic depth per sample.

    The original's `drop_connect` (builder: utils.py): each image is kept with
    probability 1 - rate and then scaled by 1 / (1 - rate). At inference it is the
    identity. Not to be confused with DropConnect of weights (Wan et al., 2013).

    Under `tf.distribute` every replica draws its own numbers.

    Args:
        rate: probability that an image is dropped, in [0, 1).
        seed: int or None; a fixed seed repeats the same sequence of masks.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: a float tensor whose first axis is the batch.
        training: whether to drop.

    Input shape:
        (N, ...)

    Output shape:
        (N, ...), as the input.

    Raises:
        ValueError: a rate outside [0, 1).

    Example:
        >>> DropConnect(0.5, seed=1)(np.ones((4, 1, 1, 1)), training=True)  # rows of 0 or 2
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"DropConnect needs a rate in [0, 1); received {rate}.")
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        keep = 1 - self.rate
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        uniform = tf.random.stateless_uniform(shape, replica_seed(self.seed_generator))
        mask = ops.cast(ops.floor(keep + uniform), inputs.dtype)
        return inputs / keep * mask

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def replica_seed(generator):
    """Returns the next seed of a `SeedGenerator`, different on every replica.

    A plain SeedGenerator gives every replica of a MirroredStrategy the same numbers.
    """
    seed = tf.convert_to_tensor(generator.next())  # (seed, counter)
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
    return tf.stack([seed[0] + replica, seed[1]])


@keras.saving.register_keras_serializable(package="effnet_tf")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` whose replicas draw different masks under tf.distribute.

    Args:
        rate: probability that a unit is dropped, in [0, 1).
        **kwargs: of `keras.layers.Dropout`: noise_shape, seed, name, dtype.

    Call arguments:
        inputs: a float tensor.
        training: whether to drop.

    Input shape:
        Any.

    Output shape:
        As the input.

    Example:
        >>> Dropout(0.2)(np.ones((4, 1280)), training=True)
    """

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, replica_seed(self.seed_generator), noise_shape=self.noise_shape)


@keras.saving.register_keras_serializable(package="effnet_tf")
class SqueezeExcite(keras.layers.Layer):
    """Scales every channel by a gate computed from the mean of all channels.

    Hu et al., arXiv 1709.01507, with the original EfficientNet's choices: the squeeze
    width counts from the block's input, and its activation is the block's own.

    Args:
        filters: channels after the squeeze, at least 1.
        activation: name of the activation between the two 1x1 convolutions.
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

    def __init__(self, filters, activation="swish", **kwargs):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.activation = activation
        self._activate = keras.activations.get(activation)

    def build(self, input_shape):
        dtype = self.dtype_policy
        self.reduce = conv(self.filters, 1, 1, "reduce", dtype, use_bias=True)
        self.expand = conv(input_shape[-1], 1, 1, "expand", dtype, use_bias=True)
        self.reduce.build((None, 1, 1, input_shape[-1]))
        self.expand.build((None, 1, 1, self.filters))
        self.built = True

    def call(self, inputs):
        # The mean over thousands of pixels needs float32; keepdims keeps the reshape,
        # and 64 operators of its shape arithmetic, out of TFLite.
        mean = ops.mean(ops.cast(inputs, "float32"), axis=(1, 2), keepdims=True)
        squeezed = self._activate(self.reduce(ops.cast(mean, inputs.dtype)))
        return inputs * ops.sigmoid(self.expand(squeezed))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "activation": self.activation}


class _InvertedBottleneck(keras.layers.Layer):
    """What MBConv and FusedMBConv share: arguments, squeeze, projection, residual."""

    def __init__(self, filters, expanded_filters, kernel_size=3, strides=1, se_filters=0,
                 drop_connect_rate=0.0, activation="swish", skip=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = int(filters)
        self.expanded_filters = int(expanded_filters)
        self.kernel_size = int(kernel_size)
        self.strides = int(strides)
        self.se_filters = int(se_filters)
        self.drop_connect_rate = float(drop_connect_rate)
        self.activation = activation
        self.skip = bool(skip)
        self._activate = keras.activations.get(activation)

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
        self.adds_input = (self.skip and self.strides == 1
                           and input_shape[-1] == self.filters)
        self.drop_connect = DropConnect(self.drop_connect_rate, name="drop_connect", dtype=dtype)
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
        names = ("filters", "expanded_filters", "kernel_size", "strides", "se_filters",
                 "drop_connect_rate", "activation", "skip")
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
            self.kernel_size, self.strides, padding="same", data_format="channels_last",
            use_bias=False, depthwise_initializer=conv_initializer(), name="dwconv", dtype=dtype)
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
        self.expand_conv = conv(self.expanded_filters, self.kernel_size, self.strides,
                                "expand_conv", dtype)
        self.expand_conv.build((None, None, None, input_shape[-1]))
        self.expand_bn = batch_norm("expand_bn", dtype)
        self.expand_bn.build((None, None, None, self.expanded_filters))

    def _expand(self, inputs, training):
        return self._activate(self.expand_bn(self.expand_conv(inputs), training=training))
