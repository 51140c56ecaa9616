"""Which replicas share the statistics of a batch, and what do they tell each other?

Under tf.distribute every replica has a part of the batch. Batch norm by all of it needs averages
over replicas: of the statistics, and for its gradient of two sums (lean_statistics.py). They are
all that replicas tell each other, once forward and once backward for each batch norm.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Group:
    """Neighbouring replicas, this one among them, with equally many images each.

    Attributes:
        size: how many, a divisor of the number of replicas; 1: this one is alone.
        found: mean and variance, each (C,), that it has had before, when a block is computed again.
    """

    size: int
    found: tuple[tf.Tensor, tf.Tensor] | None = None

    def averages(self, *values: tf.Tensor) -> list[tf.Tensor]:
        """Returns the averages over the group of tensors (C,); called in a replica context.

        By autodiff each replica gets the gradient of what all of them add up to.
        """
        if self.size == 1:
            return list(values)
        context = tf.distribute.get_replica_context()
        count, local = context.num_replicas_in_sync // self.size, tf.stack(values)
        # Each group adds up in a row of its own: one all-reduce serves every kind of strategy.
        row = context.replica_id_in_sync_group // self.size
        mine = tf.one_hot(row, count, dtype=local.dtype)[:, tf.newaxis, tf.newaxis]
        rows = context.all_reduce(tf.distribute.ReduceOp.SUM, mine * local)
        return tf.unstack(tf.reduce_sum(mine * rows, 0) / self.size)

    def moments(self, mean: tf.Tensor, variance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mean and variance per channel of the group, of those of this replica.

        As in the original (utils.py: TpuBatchNormalization) the variance is E[x^2] - E[x]^2.

        Args:
            mean: (C,).
            variance: (C,), without Bessel's correction.
        """
        if self.found is not None:
            return self.found
        if self.size == 1:
            return mean, variance
        mean, square = self.averages(mean, variance + tf.square(mean))
        return mean, tf.maximum(square - tf.square(mean), 0.0)
