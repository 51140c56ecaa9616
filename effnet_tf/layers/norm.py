"""How are feature maps normalised?"""

import keras
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.layers import lean_norm
from effnet_tf.variants import BATCH_NORM_EPSILON, BATCH_NORM_MODES, BATCH_NORM_MOMENTUM


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
            "inference", and gamma and beta do not train, whatever `trainable` says; in
            another mode it counts again.
        sync_replicas: how many neighbouring replicas under tf.distribute share the
            statistics of a batch; all of them where there are fewer.
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

    def __init__(self, mode: str = "trainable", sync_replicas: int = 1, **kwargs):
        check_batch_norm_mode(mode)
        self._mode = mode
        super().__init__(**kwargs)
        self.sync_replicas = int(sync_replicas)
        self._said_trainable = self.trainable  # by the user, whatever the mode makes of it
        self._set_mode(mode)

    def __setattr__(self, name, value):
        # Keras does not call a setter for the value that is there already: in mode "frozen" it
        # would not be heard that the user says False.
        if name == "trainable":
            self._set_trainable(value)
        else:
            super().__setattr__(name, value)

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
        self._set_trainable(self._said_trainable)

    @property
    def trainable(self) -> bool:
        """Whether gamma and beta train: never while the mode is "frozen"."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._set_trainable(value)

    def _set_trainable(self, value):
        # model.trainable = True reaches every layer; what is frozen stays so.
        self._said_trainable = bool(value)
        keras.layers.Layer.trainable.fset(self, value and self.mode != "frozen")

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if mask is None and self.takes_batch(training) and not self.shares():
            if lean_norm.can_fuse(self, inputs):
                return lean_norm.fused(self, inputs)
        return super().call(inputs, training and self.mode == "trainable", mask)

    def takes_batch(self, training: bool | None) -> bool:
        """Whether it normalises by the statistics of the batch, and its own follow them."""
        return bool(training) and self.trainable and self.mode == "trainable"

    def shares(self) -> bool:
        """Whether other replicas share the statistics of a batch, where this is asked."""
        context = tf.distribute.get_replica_context()
        return self.sync_replicas > 1 and context is not None and context.num_replicas_in_sync > 1

    def _moments(self, inputs, mask):
        if not self.shares():
            return super()._moments(inputs, mask)
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return group_moments(inputs, self._group(replicas))

    def _group(self, replicas):
        size = min(self.sync_replicas, replicas)
        if replicas % size:
            raise InputError(
                f"Layer '{self.name}' shares the statistics of a batch among {size} replicas, and "
                f"there are {replicas}: set its sync_replicas to a divisor of that, or to 1."
            )
        return size

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "trainable": self._said_trainable,
            "mode": self.mode,
            "sync_replicas": self.sync_replicas,
        }


def batch_norm(
    name: str,
    dtype: str | keras.DTypePolicy | None = None,
    *,
    momentum: float = BATCH_NORM_MOMENTUM,
    epsilon: float = BATCH_NORM_EPSILON,
) -> BatchNorm:
    """Returns a batch norm, by default with the original's constants and Keras' policy."""
    return BatchNorm(momentum=momentum, epsilon=epsilon, name=name, dtype=dtype)


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
