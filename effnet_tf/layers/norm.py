"""How are feature maps normalised?"""

import keras
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.layers import lean_norm
from effnet_tf.layers.replica_group import Group
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
        if mask is None and self.takes_batch(training) and lean_norm.can_fuse(self, inputs):
            return lean_norm.fused(self, inputs, self.group())
        return super().call(inputs, training and self.mode == "trainable", mask)

    def takes_batch(self, training: bool | None) -> bool:
        """Whether it normalises by the statistics of the batch, and its own follow them."""
        return bool(training) and self.trainable and self.mode == "trainable"

    def group(self) -> Group | None:
        """Returns the replicas that share the statistics of a batch, this one among them.

        None where it is alone, or nobody asks for it.

        Raises:
            InputError: they do not divide the replicas that there are.
        """
        context = tf.distribute.get_replica_context()
        if self.sync_replicas <= 1 or context is None or context.num_replicas_in_sync == 1:
            return None
        return self._group_of(context.num_replicas_in_sync)

    def _group_of(self, replicas):
        size = min(self.sync_replicas, replicas)
        if replicas % size:
            raise InputError(
                f"Layer '{self.name}' shares the statistics of a batch among {size} replicas, and "
                f"there are {replicas}: set its sync_replicas to a divisor of that, or to 1."
            )
        return Group(size)

    def _moments(self, inputs, mask):
        group = self.group()
        if group is None:
            return super()._moments(inputs, mask)
        return group.moments(*tf.nn.moments(inputs, (0, 1, 2)))

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
