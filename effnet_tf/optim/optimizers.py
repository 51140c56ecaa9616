"""Which optimisers, schedules and weight average do recipes use?

The published one: TF1's RMSProp, a staircase with linear warm-up, L2 on everything but
batch norm, and an exponential moving average that includes batch-norm statistics. Each
differs from what Keras does by default. Besides: SGD and AdamW (Keras' own), and LARS
with polynomial decay for large batches.

Source (main.py, utils.py, lars_optimizer.py below): tensorflow/tpu models/official/efficientnet.
"""

import math
import re

import keras
import tensorflow as tf
from keras import ops

OPTIMIZERS = ("rmsprop", "sgd", "adamw", "lars")

_STAGE = re.compile(r"(?:^|/)(?:(stem)_(?:conv|bn)|block(\d+)[a-z]+|(top)_(?:conv|bn))/")
_HEAD = 8  # the number of the head among the stages; stem: 0


def stage_of(name):
    """Returns the stage of a variable: 0 stem, 1 to 7 blocks, 8 head, None for all others."""
    match = _STAGE.search(name)
    if not match:
        return None
    stem, block, _ = match.groups()
    return 0 if stem else int(block) if block else _HEAD


class _StageRates:
    """Gives the stages of an EfficientNet lower learning rates, for fine-tuning.

    Args:
        *args, **kwargs: of the optimiser.
        body_rate: factor of all variables of an EfficientNet but its classifier; your
            own layers have the full rate, too.
        layer_decay: further factor per stage below the classifier: the head has it once,
            the stem nine times.
    """

    def __init__(self, *args, body_rate=1.0, layer_decay=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.body_rate, self.layer_decay = float(body_rate), float(layer_decay)

    def update_step(self, gradient, variable, learning_rate):
        stage = stage_of(variable.name)  # a tf.Variable, whose name is the Keras variable's path
        if stage is not None:
            learning_rate *= self.body_rate * self.layer_decay ** (_HEAD + 1 - stage)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {
            **super().get_config(),
            "body_rate": self.body_rate,
            "layer_decay": self.layer_decay,
        }


@keras.saving.register_keras_serializable(package="effnet_tf")
class RMSprop(_StageRates, keras.optimizers.RMSprop):
    """RMSProp as TensorFlow 1 computes it, and so as the paper trained.

    Keras 3 has the same formula, epsilon inside the root, but starts the mean square at
    0 where TF1 starts it at 1: its first step is up to 1/sqrt(epsilon) = 30 times larger.

    Args:
        *args, **kwargs: of `keras.optimizers.RMSprop`; and `body_rate` and
            `layer_decay`: factors on the rates of all but the classifier, and per stage.
    """

    def add_optimizer_variables(self, trainable_variables, name, initializer="zeros"):
        if name == "velocity":
            initializer = "ones"
        return super().add_optimizer_variables(trainable_variables, name, initializer)


@keras.saving.register_keras_serializable(package="effnet_tf")
class SGD(_StageRates, keras.optimizers.SGD):
    """Keras' SGD, with `body_rate` and `layer_decay` as `RMSprop` has them."""


@keras.saving.register_keras_serializable(package="effnet_tf")
class AdamW(_StageRates, keras.optimizers.AdamW):
    """Keras' AdamW, with `body_rate` and `layer_decay` as `RMSprop` has them."""


class _Lars(keras.optimizers.Optimizer):
    def __init__(
        self,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-5,
        coefficient=0.001,
        name="lars",
        **kwargs,
    ):
        # Not as Keras' weight decay, which is decoupled from the gradient.
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.decay = float(momentum), float(weight_decay)
        self.coefficient = float(coefficient)

    def build(self, variables):
        if not self.built:
            super().build(variables)
            self._momenta = self.add_optimizer_variables(variables, "momentum")
            # By Keras' names: those of a replica's copy end in "/replica_1".
            self._is_adapted = [
                variable.name not in ("gamma", "beta", "bias") for variable in variables
            ]

    def update_step(self, gradient, variable, learning_rate):
        number = self._get_variable_index(variable)
        if self._is_adapted[number]:
            weight, slope = tf.norm(variable), tf.norm(gradient)
            trust = self.coefficient * weight / (slope + self.decay * weight)
            learning_rate *= tf.where((weight > 0) & (slope > 0), trust, 1.0)
            gradient += self.decay * variable
        momentum = self._momenta[number]
        # The rate is inside the momentum, as in the original.
        self.assign(momentum, self.momentum * momentum + learning_rate * gradient)
        self.assign_sub(variable, momentum)

    def get_config(self):
        config = super().get_config()
        config.pop("weight_decay")
        return {
            **config,
            "momentum": self.momentum,
            "weight_decay": self.decay,
            "coefficient": self.coefficient,
        }


@keras.saving.register_keras_serializable(package="effnet_tf")
class LARS(_StageRates, _Lars):
    """Layer-wise adaptive rates for large batches (You et al., arXiv 1708.03888).

    As in lars_optimizer.py: the rate of each kernel is scaled by
    `coefficient * |w| / (|g| + weight_decay * |w|)`, its gradient gets
    `weight_decay * w`, and momentum follows. Biases and batch norm's gamma and beta
    have plain momentum and no decay.

    Args:
        learning_rate: a float or a schedule.
        momentum: factor of the last update, in [0, 1).
        weight_decay: of the kernels.
        coefficient: the paper's eta; main.py: 0.001.
        **kwargs: of `keras.optimizers.Optimizer`; and `body_rate` and `layer_decay` as
            `RMSprop` has them.
    """


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
        return {
            "peak": self.peak,
            "decay_rate": self.decay_rate,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
        }


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
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupPolynomial(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a polynomial decay that starts where the warm-up ends.

    `end + (peak - end) * (1 - done) ** power`, done being max(1, step - warmup_steps) /
    (total_steps - warmup_steps + 1); before, `peak * step / warmup_steps` (utils.py).

    Args:
        peak: the learning rate at the end of the warm-up.
        end: the last learning rate; main.py: 0.1.
        power: main.py: 2.
        total_steps: where `end` is reached, warm-up included.
        warmup_steps: steps of the warm-up; 0 for none.
    """

    def __init__(self, peak, end, power, total_steps, warmup_steps):
        self.peak, self.end, self.power = float(peak), float(end), float(power)
        self.total_steps, self.warmup_steps = int(total_steps), int(warmup_steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        span = max(self.total_steps - self.warmup_steps + 1, 1)
        left = 1 - ops.minimum(ops.maximum(step - self.warmup_steps, 1.0) / span, 1.0)
        rate = self.end + (self.peak - self.end) * ops.power(left, self.power)
        warm = self.peak * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warm, rate)

    def get_config(self):
        return {
            "peak": self.peak,
            "end": self.end,
            "power": self.power,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


def schedule(recipe, steps_per_epoch):
    """Returns the learning rate of a `Recipe`; `steps_per_epoch` is a float, as published."""
    warmup = int(recipe.warmup_epochs * steps_per_epoch)
    total = recipe.epochs * steps_per_epoch
    if recipe.schedule == "cosine":
        return WarmupCosine(recipe.learning_rate(), total, warmup)
    if recipe.schedule == "polynomial":
        return WarmupPolynomial(
            recipe.learning_rate(), recipe.end_learning_rate, recipe.decay_power, total, warmup
        )
    return WarmupStaircase(
        recipe.learning_rate(), recipe.decay_rate, recipe.decay_epochs * steps_per_epoch, warmup
    )


def optimizer(recipe, steps_per_epoch):
    """Returns the optimiser of a `Recipe`, for `Trainer` and for `model.compile`.

    Weight decay is L2 in the loss (`l2_penalty`); adamw has it in the optimiser instead, at
    the plain rate whatever the stage, and lars in both, as main.py does. Gradients are
    clipped by `clip`, which sees them summed over all replicas.
    """
    rates = dict(body_rate=recipe.body_rate, layer_decay=recipe.layer_decay)
    rate = schedule(recipe, steps_per_epoch)
    if recipe.optimizer == "sgd":
        return SGD(rate, momentum=recipe.momentum, **rates)
    if recipe.optimizer == "lars":
        return LARS(rate, recipe.momentum, recipe.weight_decay, recipe.lars_coefficient, **rates)
    if recipe.optimizer == "adamw":
        made = AdamW(
            rate,
            weight_decay=recipe.weight_decay,
            beta_1=recipe.momentum,
            beta_2=recipe.adam_beta_2,
            **rates,
        )
        made.exclude_from_weight_decay(var_names=[r"(^|/)(gamma|beta|bias)(/|:|$)"])
        return made
    return RMSprop(
        rate,
        rho=recipe.rmsprop_rho,
        momentum=recipe.momentum,
        epsilon=recipe.rmsprop_epsilon,
        **rates,
    )


def clip(gradients, norm, replicas):
    """Scales gradients so that their sum over all replicas has at most a global norm.

    Called in a replica context; returns gradients whose sum over replicas is the clipped
    one, as Keras' optimisers expect them.

    Args:
        gradients: list of tensors, this replica's share.
        norm: a float.
        replicas: how many there are.
    """
    if replicas > 1:
        gradients = tf.distribute.get_replica_context().all_reduce(
            tf.distribute.ReduceOp.SUM, gradients
        )
    clipped, _ = tf.clip_by_global_norm(gradients, norm)
    return [gradient / replicas for gradient in clipped]


def decayed(variables):
    """Returns the variables under weight decay: all but batch norm's gamma and beta.

    Biases and depthwise kernels are decayed, as in main.py, which excludes names that
    contain "batch_normalization".
    """
    return [variable for variable in variables if variable.name not in ("gamma", "beta")]


def l2_penalty(recipe, variables):
    """Returns weight_decay * sum(v**2) / 2, () float32 (main.py; Keras' L2 has no 1/2)."""
    if recipe.optimizer == "adamw":
        return 0.0
    return recipe.weight_decay * tf.add_n(
        [tf.nn.l2_loss(tf.cast(variable.value, tf.float32)) for variable in decayed(variables)]
    )


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

    In a replica context it moves this replica's copies, without communication.

    Args:
        averages: tf.Variables, one per variable; all weights, batch-norm statistics too.
        variables: tf.Variables.
        decay: () float32.
    """
    for average, variable in zip(averages, variables):
        average.assign_sub((1 - decay) * (average - variable))
