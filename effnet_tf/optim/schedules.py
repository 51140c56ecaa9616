"""How does the learning rate change over a run?

A linear warm-up from 0, then one of three decays or none. Source (main.py, utils.py below):
tensorflow/tpu models/official/efficientnet.

Not one warm-up around Keras' own decays, though it would be shorter: a resumed run must go on bit
for bit. Compared at every step of the shipped recipes and some like them, at batches of 256 to
65,536 (Keras 3.15, CPU; eagerly, in a graph, and with XLA): ExponentialDecay(staircase=True) is
equal. CosineDecay differs in graphs: on ImageNet by up to 3 units in the last place, from step
4,783 on; in the recipe finetune by up to 2e-5 of the rate near its end, where that is almost 0.
PolynomialDecay differs after the warm-up, at up to 97 % of the steps, by up to 2 such units (26
with XLA), because it subtracts the last rate from the first in float32.
"""

import math

import keras
from keras import ops

from effnet_tf.recipes import Recipe


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """`peak * step / warmup_steps` while step < warmup_steps, then `_decayed(step)`."""

    def __init__(self, peak, warmup_steps):
        self.peak = float(peak)
        self.warmup_steps = int(warmup_steps)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        warm = self.peak * step / max(self.warmup_steps, 1)
        return ops.where(step < self.warmup_steps, warm, self._decayed(step))

    def _decayed(self, step):
        raise NotImplementedError  # a subclass says it


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupStaircase(_Warmup):
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

    def __init__(
        self, peak: float, decay_rate: float, decay_steps: float, warmup_steps: int
    ) -> None:
        super().__init__(peak, warmup_steps)
        self.decay_rate = float(decay_rate)
        self.decay_steps = float(decay_steps)

    def _decayed(self, step):
        stair = ops.floor(step / self.decay_steps)
        return self.peak * ops.power(self.decay_rate, stair)

    def get_config(self) -> dict[str, float]:
        """Returns the arguments of the constructor."""
        return {
            "peak": self.peak,
            "decay_rate": self.decay_rate,
            "decay_steps": self.decay_steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupCosine(_Warmup):
    """Linear warm-up, then half a cosine that has been descending since step 0.

    `peak * (1 + cos(pi * step / total_steps)) / 2`, replaced by
    `peak * step / warmup_steps` while step < warmup_steps (utils.py: build_learning_rate).

    Args:
        peak: the learning rate of the cosine's start and of the warm-up's end.
        total_steps: the step where the rate reaches 0, warm-up included; a float.
        warmup_steps: steps of the warm-up; 0 for none.
    """

    def __init__(self, peak: float, total_steps: float, warmup_steps: int) -> None:
        super().__init__(peak, warmup_steps)
        self.total_steps = float(total_steps)

    def _decayed(self, step):
        done = ops.minimum(step / self.total_steps, 1.0)
        return 0.5 * self.peak * (1 + ops.cos(math.pi * done))

    def get_config(self) -> dict[str, float]:
        """Returns the arguments of the constructor."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupConstant(_Warmup):
    """Linear warm-up, then the same rate to the end: EfficientNetV2's fine-tuning.

    `peak`, replaced by `peak * step / warmup_steps` while step < warmup_steps (google/automl
    efficientnetv2/utils.py: WarmupLearningRateSchedule).

    Args:
        peak: the learning rate.
        warmup_steps: steps of the warm-up; 0 for none.
    """

    def _decayed(self, step):
        return ops.ones_like(step) * self.peak

    def get_config(self) -> dict[str, float]:
        """Returns the arguments of the constructor."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="effnet_tf")
class WarmupPolynomial(_Warmup):
    """Linear warm-up, then a polynomial decay that starts where the warm-up ends.

    `end + (peak - end) * (1 - done) ** power`, done being max(1, step - warmup_steps) /
    (total_steps - warmup_steps + 1); before, `peak * step / warmup_steps` (utils.py).

    Args:
        peak: the learning rate at the end of the warm-up.
        end: the last learning rate; main.py: 0.1.
        power: main.py: 2.
        total_steps: the step where `end` is reached, warm-up included; rounded down.
        warmup_steps: steps of the warm-up; 0 for none.
    """

    def __init__(
        self, peak: float, end: float, power: float, total_steps: float, warmup_steps: int
    ) -> None:
        super().__init__(peak, warmup_steps)
        self.end, self.power = float(end), float(power)
        self.total_steps = int(total_steps)

    def _decayed(self, step):
        span = max(self.total_steps - self.warmup_steps + 1, 1)
        left = 1 - ops.minimum(ops.maximum(step - self.warmup_steps, 1.0) / span, 1.0)
        return self.end + (self.peak - self.end) * ops.power(left, self.power)

    def get_config(self) -> dict[str, float]:
        """Returns the arguments of the constructor."""
        return {
            "peak": self.peak,
            "end": self.end,
            "power": self.power,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


@keras.saving.register_keras_serializable(package="effnet_tf")
class From(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule that begins at a later step: `schedule(max(step - start, 0))`.

    Args:
        schedule: what counts from there.
        start: the step.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, start: int):
        self.schedule, self.start = schedule, int(start)

    def __call__(self, step):
        return self.schedule(ops.maximum(ops.cast(step, "int64") - self.start, 0))

    def get_config(self) -> dict[str, object]:
        """Returns the arguments of the constructor."""
        return {
            "schedule": keras.optimizers.schedules.serialize(self.schedule),
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config: dict) -> "From":
        """Returns the schedule of a `get_config`."""
        inner = keras.optimizers.schedules.deserialize(config["schedule"])
        return cls(inner, config["start"])


def schedule(
    recipe: Recipe, steps_per_epoch: float
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a recipe, a function of the step.

    That of an extended run begins anew where it was extended, over the epochs that are left.

    Args:
        recipe: a `Recipe`.
        steps_per_epoch: images of an epoch / images of a batch, not rounded, as published.
    """
    total = recipe.epochs * steps_per_epoch - recipe.extended_at
    decayed = _schedule(recipe, steps_per_epoch, total)
    if recipe.extended_at:
        return From(decayed, recipe.extended_at)
    return decayed


def _schedule(recipe, steps_per_epoch, total):
    warmup = int(recipe.warmup_epochs * steps_per_epoch)
    peak = recipe.learning_rate()
    if recipe.schedule == "cosine":
        return WarmupCosine(peak, total, warmup)
    if recipe.schedule == "constant":
        return WarmupConstant(peak, warmup)
    if recipe.schedule == "polynomial":
        return WarmupPolynomial(peak, recipe.end_learning_rate, recipe.decay_power, total, warmup)
    return WarmupStaircase(peak, recipe.decay_rate, recipe.decay_epochs * steps_per_epoch, warmup)
