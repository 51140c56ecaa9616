"""What happens to gradients, weights and averages around an optimiser's step?

L2 on everything but batch norm, clipping over all replicas, and an exponential moving average
that includes batch-norm statistics, as the published recipe has them (main.py of
tensorflow/tpu models/official/efficientnet).
"""

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from effnet_tf.recipes import Recipe


def clip(gradients: Sequence[tf.Tensor], norm: float, replicas: int) -> list[tf.Tensor]:
    """Scales gradients so that their sum over all replicas has at most a global norm.

    Called in a replica context.

    Args:
        gradients: this replica's share, one tensor per variable.
        norm: the largest norm of all gradients together.
        replicas: how many there are.

    Returns:
        Gradients whose sum over replicas is the clipped one, as Keras' optimisers expect them.
    """
    if replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, gradients
        )
    clipped, _ = tf.clip_by_global_norm(gradients, norm)
    return [gradient / replicas for gradient in clipped]


def decayed(variables: Iterable[keras.Variable], biases: bool = True) -> list[keras.Variable]:
    """Returns the variables under weight decay: all but batch norm's gamma and beta.

    Depthwise kernels are decayed, as in main.py, which excludes names that contain
    "batch_normalization".

    Args:
        variables: what trains.
        biases: whether they are decayed, too: in main.py, but not in EfficientNetV2's code
            (google/automl efficientnetv2/hparams.py: weight_decay_exclude).
    """
    spared = ("gamma", "beta") if biases else ("gamma", "beta", "bias")
    return [variable for variable in variables if variable.name not in spared]


def l2_penalty(recipe: Recipe, variables: Iterable[keras.Variable]) -> tf.Tensor | float:
    """Returns weight_decay * sum(v**2) / 2, () float32 (main.py; Keras' L2 has no 1/2).

    It is 0.0 for adamw, whose decay is in the optimiser.
    """
    if recipe.optimizer == "adamw":
        return 0.0
    return recipe.weight_decay * tf.add_n(
        [
            tf.nn.l2_loss(tf.cast(variable.value, tf.float32))
            for variable in decayed(variables, recipe.decay_biases)
        ]
    )


def ema_decay(decay: float, step: tf.Tensor | int) -> tf.Tensor:
    """Returns min(decay, (1 + t) / (10 + t)), () float32.

    Args:
        decay: the decay after the warm-up of the average, in [0, 1].
        step: t, the optimiser's step *after* its increment (tf.train.
            ExponentialMovingAverage with num_updates, as in main.py): the first is 1.
    """
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1 + step) / (10 + step))


def update_ema(
    averages: Iterable[tf.Variable], variables: Iterable[tf.Variable], decay: tf.Tensor
) -> None:
    """Moves `averages` towards `variables`: a -= (1 - decay) * (a - v).

    In a replica context it moves this replica's copies, without communication.

    Args:
        averages: one per variable, of the same shape.
        variables: all weights, batch-norm statistics too.
        decay: () float32.
    """
    for average, variable in zip(averages, variables):
        average.assign_sub((1 - decay) * (average - variable))
