"""Which layers are the blocks of an EfficientNet made of?

Keras 3 layers that take plain numbers: nothing here rounds, scales or knows a
variant. Feature maps are (N, H, W, C); padding is TensorFlow's SAME.
"""

import contextlib
import itertools
import threading
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import ops

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"effnet_tf needs Keras' TensorFlow backend, and Keras runs on "
        f"{keras.backend.backend()} here: unset KERAS_BACKEND, or set it to "
        "tensorflow, before importing keras."
    )

# builder (see variants/network.py), efficientnet_builder.py: batch_norm_momentum,
# batch_norm_epsilon.
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MODES = ("trainable", "inference", "frozen")


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
    return BatchNorm(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name, dtype=dtype
    )


def conv(filters, kernel_size, strides, name, dtype=None, use_bias=False, dilation_rate=1):
    """A SAME convolution with the original's initialiser, by default without bias."""
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        data_format="channels_last",
        dilation_rate=dilation_rate,
        use_bias=use_bias,
        kernel_initializer=conv_initializer(),
        name=name,
        dtype=dtype,
    )


def check_batch_norm_mode(mode):
    """Raises ValueError unless `mode` is one of `BATCH_NORM_MODES`."""
    if mode not in BATCH_NORM_MODES:
        raise ValueError(
            f"batch_norm is {mode!r}; it must be one of {', '.join(map(repr, BATCH_NORM_MODES))}."
        )


def flatten(model):
    """Yields the layers of a model, and those of the models inside it."""
    for layer in model.layers:
        yield from flatten(layer) if isinstance(layer, keras.Model) else (layer,)


@keras.saving.register_keras_serializable(package="effnet_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation that can be frozen, and stays so when it is saved.

    Keras has no batch norm that trains gamma and beta but leaves the statistics alone,
    which small batches need.

    Args:
        mode: "trainable": batch statistics in training, as in Keras. "inference": moving
            statistics, unchanged, also in training; gamma and beta train. "frozen": as
            "inference", and gamma and beta do not train.
        **kwargs: of `keras.layers.BatchNormalization`: momentum, epsilon, name, dtype.

    Call arguments:
        inputs: a float feature map.
        training: whether to normalise by the batch's statistics, if `mode` allows it.

    Input shape:
        (N, ..., C)

    Output shape:
        As the input.

    Raises:
        ValueError: an unknown mode.

    Example:
        >>> BatchNorm("frozen")(np.ones((2, 4, 4, 8)), training=True)  # moving statistics
    """

    def __init__(self, mode="trainable", **kwargs):
        check_batch_norm_mode(mode)
        self._mode = mode
        super().__init__(**kwargs)
        # Replicas that share statistics under tf.distribute; how a model is trained, not saved.
        self.sync_replicas = 1
        BatchNorm.mode.fset(self, mode)

    @property
    def mode(self):
        return self._mode

    @mode.setter
    def mode(self, mode):
        check_batch_norm_mode(mode)
        self._mode = mode
        # Not self.trainable = ...: TensorFlow skips the assignment of what is there already.
        BatchNorm.trainable.fset(self, self.trainable)

    @property
    def trainable(self):
        return super().trainable

    @trainable.setter
    def trainable(self, value):
        # model.trainable = True reaches every layer; what is frozen stays so.
        keras.layers.Layer.trainable.fset(self, value and self.mode != "frozen")

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training and self.mode == "trainable", mask)

    def _moments(self, inputs, mask):
        context = tf.distribute.get_replica_context()
        if self.sync_replicas == 1 or context is None or context.num_replicas_in_sync == 1:
            return super()._moments(inputs, mask)
        return group_moments(inputs, self.sync_replicas)

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def group_moments(inputs, size):
    """Returns mean and variance per channel over groups of `size` neighbouring replicas.

    Called in a replica context, with equally many images on every replica. As in the
    original (utils.py: TpuBatchNormalization) the variance is E[x^2] - E[x]^2.

    Args:
        inputs: (N, H, W, C) float32.
        size: a divisor of the number of replicas.
    """
    context = tf.distribute.get_replica_context()
    count = context.num_replicas_in_sync // size
    # Each group adds up in a row of its own: one all-reduce serves every kind of strategy.
    mine = tf.one_hot(context.replica_id_in_sync_group // size, count)[:, tf.newaxis, tf.newaxis]
    mean, variance = tf.nn.moments(inputs, (0, 1, 2))
    local = tf.stack([mean, variance + tf.square(mean)])
    rows = context.all_reduce(tf.distribute.ReduceOp.SUM, mine * local)
    mean, mean_square = tf.unstack(tf.reduce_sum(mine * rows, 0) / size)
    return mean, tf.maximum(mean_square - tf.square(mean), 0.0)


@keras.saving.register_keras_serializable(package="effnet_tf")
class Normalize(keras.layers.Layer):
    """Maps pixels in [0, 255] to `(pixels - mean) / std`.

    It computes in float32 under every dtype policy. Its constants are no variables, so
    that a model is the same network whatever weights it was made with; they are saved
    with it, in `.keras` and `.weights.h5` files.

    The first batch of float pixels is looked at: if it seems to be scaled to [0, 1] or
    [-1, 1] already, a warning says so. (Not under XLA, Keras' default on a GPU, nor in a
    tf.function of your own: call the model once on a batch there.)

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
        self._range_seen = False
        if len(self.mean) != len(self.std) or 0.0 in self.std:
            raise ValueError(
                "Normalize needs a mean and a non-zero std per channel; received "
                f"mean={self.mean} and std={self.std}."
            )

    def build(self, input_shape):
        if input_shape[-1] != len(self.mean):
            raise ValueError(
                f"Normalize has constants for {len(self.mean)} channels; received "
                f"an input of shape {tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs):
        pixels = ops.cast(inputs, "float32")
        if not self._range_seen and "float" in keras.backend.standardize_dtype(inputs.dtype):
            pixels = self._look_at_range(pixels)
        return ops.cast((pixels - self.mean) / self.std, self.compute_dtype)

    def _look_at_range(self, pixels):
        """Returns the pixels; arranges that `_warn_of_range` sees the first real ones."""
        if tf.executing_eagerly():
            self._warn_of_range(tf.reduce_min(pixels), tf.reduce_max(pixels))
        elif _in_keras_loop():
            seen = tf.numpy_function(
                self._warn_of_range, [tf.reduce_min(pixels), tf.reduce_max(pixels)], []
            )
            with tf.control_dependencies([seen]):
                return tf.identity(pixels)
        return pixels

    def _warn_of_range(self, low, high):
        if self._range_seen or high <= low:  # a constant image says nothing
            return
        self._range_seen = True
        if max(self.std) > 10 and high <= 5 and low >= -5:
            seem = (
                "scaled to [0, 1]"
                if low >= 0 and high <= 1
                else "scaled to [-1, 1]"
                if low >= -1 and high <= 1
                else "normalised already"
            )
            warnings.warn(
                f"The first images lie between {low:.3g} and {high:.3g}, as if {seem}, but "
                "this model takes pixels in [0, 255] and normalises them itself. Leave out that "
                "step, or build the model with preprocessing=False if it is meant.",
                stacklevel=2,
            )

    def save_own_variables(self, store):
        store["mean"], store["std"] = np.asarray(self.mean), np.asarray(self.std)

    def load_own_variables(self, store):
        if "mean" in store.keys():  # noqa: SIM118  (a store of Keras has keys alone)
            self.mean, self.std = (np.asarray(store[name]).tolist() for name in ("mean", "std"))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


def _in_keras_loop():
    """Whether a step of fit, evaluate or predict is being traced, and not for XLA.

    Only there may an operation call back to Python: a model that is exported, or
    compiled for a TPU, must not hold one.
    """
    graph, inside = tf.compat.v1.get_default_graph(), False
    while graph is not None:
        context = graph._get_control_flow_context()
        if context is not None and context.IsXLAContext():
            return False
        inside |= getattr(graph, "name", "").startswith(("one_step_on_", "multi_step_on_"))
        graph = getattr(graph, "outer_graph", None)
    return inside


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
        uniform = tf.random.stateless_uniform(shape, mask_seed(self.seed_generator))
        mask = ops.cast(ops.floor(keep + uniform), inputs.dtype)
        return inputs / keep * mask

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


_masks = threading.local()  # a MirroredStrategy runs every replica in a thread of its own


@contextlib.contextmanager
def masks_from(key):
    """Makes the masks drawn inside a function of `key`, their order and the replica alone.

    Without it Dropout and DropConnect count calls in Keras' SeedGenerators, whose state is
    in no Keras or TensorFlow checkpoint: a resumed run would replay its first masks.

    Args:
        key: (2,) int32, such as (seed, step).
    """
    _masks.key, _masks.numbers = key, itertools.count()
    try:
        yield
    finally:
        _masks.key = None


def mask_seed(generator):
    """Returns the (2,) seed of the next mask, different on every replica.

    A plain SeedGenerator gives every replica of a MirroredStrategy the same numbers.
    """
    context = tf.distribute.get_replica_context()
    replica = context.replica_id_in_sync_group if context else 0
    if getattr(_masks, "key", None) is not None:
        seed = tf.random.experimental.stateless_fold_in(_masks.key, next(_masks.numbers))
        return tf.random.experimental.stateless_fold_in(seed, replica)
    seed = tf.convert_to_tensor(generator.next())  # (seed, counter)
    return tf.stack([seed[0] + tf.cast(replica, seed.dtype), seed[1]])


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
            inputs, self.rate, mask_seed(self.seed_generator), noise_shape=self.noise_shape
        )


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
