"""Which optimiser, schedule and weight average does the published recipe use?

TF1's RMSProp, a staircase with linear warm-up, L2 on everything but batch norm, and
an exponential moving average that includes batch-norm statistics. Each differs from
what Keras does by default.

Source (main.py, utils.py below): tensorflow/tpu models/official/efficientnet.
"""

import math
import re

import keras
import tensorflow as tf
from keras import ops


_BODY = re.compile(r"(^|/)((stem|top)_(conv|bn)|block\d+[a-z]+)/")  # variables below the classifier


@keras.saving.register_keras_serializable(package="effnet_tf")
class RMSprop(keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 computes it, and so as the paper trained.

    Keras 3 has the same formula, epsilon inside the root, but starts the mean square at
    0 where TF1 starts it at 1: its first step is up to 1/sqrt(epsilon) = 30 times larger.

    Args:
        *args, **kwargs: of `keras.optimizers.RMSprop`.
        body_rate: factor on the learning rate of all variables of an EfficientNet but its
            classifier, for fine-tuning; your own layers have the full rate, too.
    """

    def __init__(self, *args, body_rate=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.body_rate = float(body_rate)

    def update_step(self, gradient, variable, learning_rate):
        # A tf.Variable here, whose name is the Keras variable's path.
        if self.body_rate != 1 and _BODY.search(variable.name):
            learning_rate = learning_rate * self.body_rate
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "body_rate": self.body_rate}

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


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine that has been descending since step 0.

    `peak * (1 + cos(pi * step / total_steps)) / 2`, replaced by
    `peak * step / warmup_steps` while step < warmup_steps (utils.py: build_learning_rate).

    Args:
        peak: the learning rate of the cosine's start and of the warm-up's end.
        total_steps: where the rate reaches 0, warm-up included.
        warmup_steps: steps of the warm-up; 0 for none.
    """

    def __init__(self, peak, total_steps, warmup_steps):
        self.peak = float(peak)
        self.total_steps = float(total_steps)
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        done = ops.minimum(step / self.total_steps, 1.0)
        rate = 0.5 * self.peak * (1 + ops.cos(math.pi * done))
        warm = self.peak * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warm, rate)

    def get_config(self):
        return {"peak": self.peak, "total_steps": self.total_steps,
                "warmup_steps": self.warmup_steps}


def schedule(recipe, steps_per_epoch):
    """Returns the learning rate of a `Recipe`; `steps_per_epoch` is a float, as published."""
    warmup = int(recipe.warmup_epochs * steps_per_epoch)
    if recipe.schedule == "cosine":
        return WarmupCosine(recipe.learning_rate(), recipe.epochs * steps_per_epoch, warmup)
    return WarmupStaircase(recipe.learning_rate(), recipe.decay_rate,
                           recipe.decay_epochs * steps_per_epoch, warmup)


def optimizer(recipe, steps_per_epoch):
    """Returns the optimiser of a `Recipe`, for `Trainer` and for `model.compile`."""
    return RMSprop(schedule(recipe, steps_per_epoch), rho=recipe.rmsprop_rho,
                   momentum=recipe.momentum, epsilon=recipe.rmsprop_epsilon,
                   body_rate=recipe.body_rate)


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
