"""How are the small networks of a search trained? No TensorFlow."""

import dataclasses

from effnet_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Settings:
    """How small networks are trained: SGD with Nesterov momentum, its rate falling as a cosine.

    Attributes:
        epochs: passes over the training images, each without the images of a partial batch.
        batch_size: images in a step.
        learning_rate: at the top of the warm-up, > 0.
        warmup: share of the steps in which the rate rises from 0, in [0, 1).
        momentum: in [0, 1).
        weight_decay: of kernels, times the learning rate per step.
        label_smoothing: in [0, 1).
        dropout_rate: before the classifier, in [0, 1).
        drop_connect_rate: end of the ramp of stochastic depth, in [0, 1).
        batch_norm_momentum: of the moving statistics; the rows' 0.99 needs longer trainings.
        shift: training images move by up to so many pixels of `Images.side` in both directions.

    Raises:
        InputError: a value is out of range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    dropout_rate: float = 0.0
    drop_connect_rate: float = 0.0
    batch_norm_momentum: float = 0.9
    shift: int = 0

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch_size", 1), ("shift", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value!r}; it must be a whole number, >= {least}.")
        for name in ("warmup", "momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be in [0, 1).")
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise InputError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; the "
                "first must be above 0, the second not below."
            )
