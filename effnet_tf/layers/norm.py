"""How are feature maps normalised, and which batch norms does a model have?"""

from collections.abc import Iterator

import keras
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.layers import backend  # noqa: F401  refuses other backends of Keras
from effnet_tf.variants import BATCH_NORM_MODES

# builder, efficientnet_builder.py: batch_norm_momentum, batch_norm_epsilon.
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3


def check_batch_norm_mode(mode: str) -> None:
    """Raises InputError unless `mode` is one of `BATCH_NORM_MODES`."""
    if mode not in BATCH_NORM_MODES:
        raise InputError(
            f"batch_norm is {mode!r}; it must be one of {', '.join(map(repr, BATCH_NORM_MODES))}."
        )


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
        InputError: an unknown mode.

    Example:
        >>> BatchNorm("frozen")(np.ones((2, 4, 4, 8)), training=True)  # moving statistics
    """

    def __init__(self, mode: str = "trainable", **kwargs):
        check_batch_norm_mode(mode)
        self._mode = mode
        super().__init__(**kwargs)
        # Replicas that share statistics under tf.distribute; how a model is trained, not saved.
        self.sync_replicas = 1
        self._set_mode(mode)

    @property
    def mode(self) -> str:
        """What the layer does in training, see above."""
        return self._mode

    @mode.setter
    def mode(self, mode: str) -> None:
        self._set_mode(mode)

    def _set_mode(self, mode):
        check_batch_norm_mode(mode)
        self._mode = mode
        # Not self.trainable = ...: TensorFlow skips the assignment of what is there already.
        self._set_trainable(self.trainable)

    @property
    def trainable(self) -> bool:
        """Whether gamma and beta train: never while the mode is "frozen"."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._set_trainable(value)

    def _set_trainable(self, value):
        # model.trainable = True reaches every layer; what is frozen stays so.
        keras.layers.Layer.trainable.fset(self, value and self.mode != "frozen")

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        return super().call(inputs, training and self.mode == "trainable", mask)

    def _moments(self, inputs, mask):
        context = tf.distribute.get_replica_context()
        if self.sync_replicas == 1 or context is None or context.num_replicas_in_sync == 1:
            return super()._moments(inputs, mask)
        return group_moments(inputs, self.sync_replicas)

    def get_config(self) -> dict:
        return {**super().get_config(), "mode": self.mode}


def batch_norm(name: str, dtype: str | keras.DTypePolicy | None = None) -> BatchNorm:
    """Returns a batch norm with the constants of the original, by default of Keras' policy."""
    return BatchNorm(
        momentum=BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name, dtype=dtype
    )


def flatten(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model, and those of the models inside it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flatten(layer)
        else:
            yield layer


def batch_norms(model: keras.Model) -> list[BatchNorm]:
    """Returns the batch norms of a model, those inside its blocks and nested models too."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]


def group_moments(inputs: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance per channel over groups of `size` neighbouring replicas.

    Called in a replica context, with equally many images on every replica. As in the
    original (utils.py: TpuBatchNormalization) the variance is E[x^2] - E[x]^2.

    Args:
        inputs: (N, H, W, C) float32.
        size: a divisor of the number of replicas.

    Returns:
        (mean, variance), each (C,) float32.
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
