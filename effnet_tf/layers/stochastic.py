"""What is dropped at random in training, and where do the random numbers come from?"""

import contextlib
import itertools
import threading
from collections.abc import Iterator

import keras
import tensorflow as tf
from keras import ops

from effnet_tf.errors import InputError
from effnet_tf.layers import backend  # noqa: F401  refuses other backends of Keras
from effnet_tf.layers.shapes import Shape


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
        InputError: a rate outside [0, 1).

    Example:
        >>> DropConnect(0.5, seed=1)(np.ones((4, 1, 1, 1)), training=True)  # rows of 0 or 2
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise InputError(f"DropConnect needs a rate in [0, 1); received {rate}.")
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        keep = 1 - self.rate
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        uniform = tf.random.stateless_uniform(shape, mask_seed(self.seed_generator))
        mask = ops.cast(ops.floor(keep + uniform), inputs.dtype)
        return inputs / keep * mask

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


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

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or self.rate == 0:
            return inputs
        return tf.nn.experimental.stateless_dropout(
            inputs, self.rate, mask_seed(self.seed_generator), noise_shape=self.noise_shape
        )


_masks = threading.local()  # a MirroredStrategy runs every replica in a thread of its own


@contextlib.contextmanager
def masks_from(key: tf.Tensor) -> Iterator[None]:
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


def mask_seed(generator: keras.random.SeedGenerator) -> tf.Tensor:
    """Returns the (2,) seed of the next mask, different on every replica.

    A plain SeedGenerator gives every replica of a MirroredStrategy the same numbers.
    """
    context = tf.distribute.get_replica_context()
    replica = 0
    if context:
        replica = context.replica_id_in_sync_group
    if getattr(_masks, "key", None) is not None:
        seed = tf.random.experimental.stateless_fold_in(_masks.key, next(_masks.numbers))
        return tf.random.experimental.stateless_fold_in(seed, replica)
    seed = tf.convert_to_tensor(generator.next())  # (seed, counter)
    return tf.stack([seed[0] + tf.cast(replica, seed.dtype), seed[1]])
