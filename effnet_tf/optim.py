"""Which optimiser, schedule and weight average does the published recipe use?

TF1's RMSProp, a staircase with linear warm-up, L2 on everything but batch norm, and
an exponential moving average that includes batch-norm statistics. Each differs from
what Keras does by default.

Source (main.py, utils.py below): tensorflow/tpu models/official/efficientnet.
"""

import keras
import tensorflow as tf
from keras import ops


@keras.saving.register_keras_serializable(package="effnet_tf")
class RMSprop(keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 computes it, and so as the paper trained.

    Keras 3 has the same formula, epsilon inside the root, but starts the mean square at
    0 where TF1 starts it at 1: its first step is up to 1/sqrt(epsilon) = 30 times larger.

    Args and behaviour otherwise: `keras.optimizers.RMSprop`.
    """

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        if name == "velocity":
            initializer = "ones"
        return super().add_optimizer_variables(trainable_variables, name, initializer)


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupStaircase(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a staircase that has been descending since step 0.

    `peak * decay_rate ** floor(step / decay_steps)`, replaced by
    `peak * step / warmup_steps` while step < warmup_steps (utils.py: build_learning_rate).
    So step 0 has rate 0, and the rate drops when the warm-up ends.

    Args:
        peak: the learning rate at the top of the warm-up.
        decay_rate: factor per stair.
        decay_steps: steps per stair, a float.
        warmup_steps: steps of the warm-up; 0 for none.
    """

    def __init__(self, peak, decay_rate, decay_steps, warmup_steps):
        self.peak = float(peak)
        self.decay_rate = float(decay_rate)
        self.decay_steps = float(decay_steps)
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        stair = ops.floor(step / self.decay_steps)
        rate = self.peak * ops.power(self.decay_rate, stair)
        warm = self.peak * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warm, rate)

    def get_config(self):
        return {"peak": self.peak, "decay_rate": self.decay_rate,
                "decay_steps": self.decay_steps, "warmup_steps": self.warmup_steps}


def schedule(recipe, steps_per_epoch):
    """Returns the learning rate of a `Recipe`; `steps_per_epoch` is a float, as published."""
    return WarmupStaircase(
        recipe.learning_rate(), recipe.decay_rate, recipe.decay_epochs * steps_per_epoch,
        int(recipe.warmup_epochs * steps_per_epoch))


def optimizer(recipe, steps_per_epoch):
    """Returns the optimiser of a `Recipe`."""
    return RMSprop(schedule(recipe, steps_per_epoch), rho=recipe.rmsprop_rho,
                   momentum=recipe.momentum, epsilon=recipe.rmsprop_epsilon)


def decayed(variables):
    """Returns the variables under weight decay: all but batch norm's gamma and beta.

    Biases and depthwise kernels are decayed, as in main.py, which excludes names that
    contain "batch_normalization".
    """
    return [variable for variable in variables if variable.name not in ("gamma", "beta")]


def l2_penalty(variables, weight_decay):
    """Returns weight_decay * sum(v**2) / 2, () float32 (main.py; Keras' L2 has no 1/2)."""
    return weight_decay * tf.add_n([tf.nn.l2_loss(tf.cast(variable.value, tf.float32))
                                    for variable in decayed(variables)])


def ema_decay(decay, step):
    """Returns min(decay, (1 + t) / (10 + t)), () float32.

    Args:
        decay: the decay after the warm-up of the average.
        step: t, the optimiser's step *after* its increment (tf.train.
            ExponentialMovingAverage with num_updates, as in main.py): the first is 1.
    """
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1 + step) / (10 + step))


def update_ema(averages, variables, decay):
    """Moves `averages` towards `variables`: a -= (1 - decay) * (a - v).

    Called in a replica context; makes one update per device, without communication.

    Args:
        averages: tf.Variables, one per variable; all weights, batch-norm statistics too.
        variables: tf.Variables.
        decay: () float32.
    """
    def move(average, value, decay):
        average.assign_sub((1 - decay) * (average - value))

    def on_all_devices(strategy, decay):
        for average, variable in zip(averages, variables):
            strategy.extended.update(average, move, args=(variable, decay), group=False)

    tf.distribute.get_replica_context().merge_call(on_all_devices, args=(decay,))
