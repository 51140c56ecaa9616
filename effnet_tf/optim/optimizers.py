"""Which optimisers do recipes use, and how do they differ from what Keras does by default?

TF1's RMSProp, as published; SGD and AdamW (Keras' own), and LARS for large batches. All can
give the stages of a network lower rates. Source (main.py, utils.py, lars_optimizer.py below):
tensorflow/tpu models/official/efficientnet.
"""

import re
from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf

from effnet_tf.layers.lean_places import under_xla
from effnet_tf.messages import log
from effnet_tf.optim.schedules import schedule
from effnet_tf.recipes import Recipe
from effnet_tf.variants import stages_of

# What adamw leaves alone, by the ends of paths: batch norm and biases.
_NOT_DECAYED = r"(^|/)(gamma|beta|bias)$"
_STAGES = 9  # below the classifier: the head, seven of blocks, the stem


def stages_below_classifier(paths: Iterable[str]) -> list[int | None]:
    """Returns how deep variables lie: head 1, stage_7 2, ..., stage_1 8, stem 9.

    Args:
        paths: of all variables that train, such as "block2a/bn/gamma"; a network may be
            renamed, see `variants.stages_of`.

    Returns:
        One number per variable; None for the classifier, and for what does not belong to
        an EfficientNet.
    """
    paths = list(paths)
    stages = stages_of(paths)
    return [_below_classifier(stages.get(path)) for path in paths]


def _below_classifier(stage):
    if stage is None or stage == "classifier":
        return None
    if stage == "stem":
        return _STAGES
    if stage == "head":
        return 1
    return _STAGES - int(stage.removeprefix("stage_"))


class _StageRates(keras.optimizers.Optimizer):
    """Gives the stages of an EfficientNet lower learning rates, for fine-tuning.

    Args:
        *args, **kwargs: of the optimiser.
        body_rate: factor of all variables of an EfficientNet but its classifier; your
            own layers have the full rate, too.
        layer_decay: further factor per stage below the classifier: the head has it once,
            the stem nine times.
        not_decayed: regular expressions; a variable in whose path one is found has no
            weight decay. What `exclude_from_weight_decay` is told comes here, too.
    """

    def __init__(self, *args, body_rate=1.0, layer_decay=1.0, not_decayed=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.body_rate, self.layer_decay = float(body_rate), float(layer_decay)
        self.not_decayed = list(not_decayed)

    def build(self, variables):
        if not self.built:
            # By their paths now: a model that is loaded may have renamed its layers since.
            paths = [getattr(variable, "path", variable.name) for variable in variables]
            self._paths, self._depths = paths, stages_below_classifier(paths)
            if (self.body_rate, self.layer_decay) != (1.0, 1.0):
                self._say_doubts()
        super().build(variables)

    def _say_doubts(self):
        for path, depth in zip(self._paths, self._depths):
            if depth is None and re.search(r"top_(conv|bn)[^/]*/", path):
                log.warning(
                    f"Variable '{path}' may be of the head of a renamed EfficientNet, none of "
                    "whose blocks trains: it has the full learning rate."
                )

    def update_step(self, gradient, variable, learning_rate):
        depth = self._depths[self._get_variable_index(variable)]
        if depth is not None:
            learning_rate *= self.body_rate * self.layer_decay**depth
        super().update_step(gradient, variable, learning_rate)

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """As in Keras, and saved with the optimiser; `var_names` are searched in paths."""
        super().exclude_from_weight_decay(var_list, var_names)
        listed = [f"^{re.escape(variable.path)}$" for variable in var_list or ()]
        self.not_decayed = [*(var_names or ()), *listed]

    def _use_weight_decay(self, variable):
        path = getattr(variable, "path", variable.name)
        if self.built:  # Keras asks about the copies of replicas, whose names end otherwise
            path = self._paths[self._get_variable_index(variable)]
        return not any(re.search(pattern, path) for pattern in self.not_decayed)

    def get_config(self):
        return {
            **super().get_config(),
            "body_rate": self.body_rate,
            "layer_decay": self.layer_decay,
            "not_decayed": list(self.not_decayed),
        }


class _FusedRMSprop(keras.optimizers.RMSprop):
    """Keras' formula, by TensorFlow's one operation for a variable in the place of its ten."""

    def update_step(self, gradient, variable, learning_rate):
        if not self._is_fused(gradient):
            super().update_step(gradient, variable, learning_rate)
            return
        number = self._get_variable_index(variable)
        if isinstance(variable, keras.Variable):
            variable = variable.value
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle,
            ms=self._velocities[number].value.handle,
            mom=self._momentums[number].value.handle,
            lr=tf.cast(learning_rate, variable.dtype),
            rho=self.rho,
            momentum=self.momentum,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, variable.dtype),
        )

    def _is_fused(self, gradient):
        """Whether there is such an operation; XLA fuses Keras' own, and places it itself."""
        plain = self.centered or not self.momentum or isinstance(gradient, tf.IndexedSlices)
        return not plain and not under_xla()


@keras.saving.register_keras_serializable(package="effnet_tf")
class RMSprop(_StageRates, _FusedRMSprop):
    """RMSProp as TensorFlow 1 computes it, and so as the paper trained.

    Keras 3 has the same formula, epsilon inside the root, but starts the mean square at
    0 where TF1 starts it at 1: its first step is up to 1/sqrt(epsilon) = 30 times larger.

    Args:
        *args, **kwargs: of `keras.optimizers.RMSprop`; and `body_rate` and
            `layer_decay`: factors on the rates of all but the classifier, and per stage;
            and `not_decayed`: regular expressions, found in the paths of variables without
            weight decay. What `exclude_from_weight_decay` is told later is saved, too.
    """

    def add_optimizer_variables(
        self, trainable_variables: list[keras.Variable], name: str, initializer: str = "zeros"
    ) -> list[keras.Variable]:
        """Makes one variable per trainable one, `velocity` with the value 1, others with 0."""
        if name == "velocity":
            initializer = "ones"
        return super().add_optimizer_variables(trainable_variables, name, initializer)


@keras.saving.register_keras_serializable(package="effnet_tf")
class SGD(_StageRates, keras.optimizers.SGD):
    """Keras' SGD, with `body_rate`, `layer_decay` and `not_decayed` as `RMSprop` has them."""


@keras.saving.register_keras_serializable(package="effnet_tf")
class AdamW(_StageRates, keras.optimizers.AdamW):
    """Keras' AdamW, with `body_rate`, `layer_decay` and `not_decayed` as `RMSprop` has them."""


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
            decay = 0.0
            if self._use_weight_decay(variable):
                decay = self.decay
            trust = self.coefficient * weight / (slope + decay * weight)
            learning_rate *= tf.where((weight > 0) & (slope > 0), trust, 1.0)
            gradient += decay * variable
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
        **kwargs: of `keras.optimizers.Optimizer`; and `body_rate`, `layer_decay` and
            `not_decayed` as `RMSprop` has them.
    """


def optimizer(recipe: Recipe, steps_per_epoch: float) -> keras.optimizers.Optimizer:
    """Returns the optimiser of a recipe, for `Trainer` and for `model.compile`.

    Weight decay is L2 in the loss (`l2_penalty`); adamw has it in the optimiser instead, at
    the plain rate whatever the stage, and lars in both, as main.py does. Gradients are
    clipped by `clip`, which sees them summed over all replicas.

    Args:
        recipe: a `Recipe`.
        steps_per_epoch: images of an epoch / images of a batch, not rounded, as published.
    """
    rates = dict(body_rate=recipe.body_rate, layer_decay=recipe.layer_decay)
    rate = schedule(recipe, steps_per_epoch)
    if recipe.optimizer == "sgd":
        return SGD(rate, momentum=recipe.momentum, **rates)
    if recipe.optimizer == "lars":
        return LARS(rate, recipe.momentum, recipe.weight_decay, recipe.lars_coefficient, **rates)
    if recipe.optimizer == "adamw":
        return AdamW(
            rate,
            weight_decay=recipe.weight_decay,
            beta_1=recipe.momentum,
            beta_2=recipe.adam_beta_2,
            not_decayed=[_NOT_DECAYED],
            **rates,
        )
    return RMSprop(
        rate,
        rho=recipe.rmsprop_rho,
        momentum=recipe.momentum,
        epsilon=recipe.rmsprop_epsilon,
        **rates,
    )
