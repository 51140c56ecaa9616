"""What does a training have to remember, and from what does it start?

All randomness is a function of (seed, step, replica) or of (seed, number of the example).
So these variables are everything that a resumed run needs:

    weights/*, batch_norm/*     of the network          step      successful steps
    ema/*                       averages of both        position  batches consumed
    slots/*                     of the optimiser        seed      of every mask
    normalization/*             the pixel constants     totals/*  of the running epoch
    guard/*                     what the guard against bad steps remembers
    thresholds                  of the last evaluation, where an image may have several classes
"""

import os

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import multilabel, storage
from effnet_tf.errors import InputError
from effnet_tf.layers import Normalize, start_at_zero
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe
from effnet_tf.runs import checkpoints, locate, texts
from effnet_tf.train.step import Step
from effnet_tf.weights import loading, pixels


class State:
    """The variables of a training, by name.

    Args:
        recipe: what is trained, and from which weights.
        class_names: of the data set.
        models: {"raw": model} and, with averaging, {"ema": model of the averages}.
        optimizer: built on the raw model's trainable variables.
        step: the training step, which holds some of the variables.

    Attributes:
        variables: {name: tf.Variable}, all that a checkpoint holds.
        constants: {"mean", "std"}, (3,) float64: the pixel constants.
        totals: {"loss", "correct", "images"}, () float64: sums over the running epoch.
        guard: {"bad_steps", "rollbacks", "forgiven", "returned_to"}, () int64: bad steps in
            a row; ways back since the last good checkpoint; batches before this number have
            had their way back; the step of the checkpoint that was gone back to, or -1.
        thresholds: (classes,) float64, from which on a class is given, where an image may have
            several; else None.
    """

    def __init__(
        self,
        recipe: Recipe,
        class_names: tuple[str, ...],
        models: dict[str, keras.Model],
        optimizer: keras.optimizers.Optimizer,
        step: Step,
    ):
        self._recipe, self._class_names, self._models = recipe, class_names, models
        self._step = step
        mean, std = _normalize(models["raw"]).constants()
        guard = {"bad_steps": 0, "rollbacks": 0, "forgiven": 0, "returned_to": -1}
        with tf.device("CPU"):
            # They come with the initial weights, and so belong into the checkpoint.
            self.constants = {
                name: tf.Variable(values, dtype=tf.float64)
                for name, values in (("mean", mean), ("std", std))
            }
            self.totals = {
                name: tf.Variable(0.0, dtype=tf.float64) for name in ("loss", "correct", "images")
            }
            self.guard = {name: tf.Variable(value, dtype=tf.int64) for name, value in guard.items()}
            self.thresholds: tf.Variable | None = None
            if recipe.labels == "multi":
                self.thresholds = tf.Variable(
                    tf.fill((len(class_names),), tf.constant(multilabel.HALF, tf.float64))
                )
        self.variables = self._registry(optimizer)

    def _registry(self, optimizer):
        raw = pixels.network_weights(self._models["raw"])
        state = {_group(v.path) + v.path: v.value for v in raw}
        if "ema" in self._models:
            averages = pixels.network_weights(self._models["ema"])
            state |= {f"ema/{v.path}": v.value for v in averages}
        for number, slot in enumerate(optimizer.variables[1:]):
            # Not the whole path: Keras numbers the optimisers of a process.
            state[f"slots/{number:04}/{slot.path.partition('/')[2]}"] = slot.value
        for name, variable in self.constants.items():
            state[f"normalization/{name}"] = variable
        for name, variable in self.totals.items():
            state[f"totals/{name}"] = variable
        for name, variable in self.guard.items():
            state[f"guard/{name}"] = variable
        if self.thresholds is not None:
            state[checkpoints.THRESHOLDS] = self.thresholds
        return state | {
            "step": optimizer.iterations.value,
            "position": self._step.position,
            "seed": self._step.seed,
            "guard/smoothed_loss": self._step.smoothed_loss,
        }

    # --- where a run starts -------------------------------------------------------------------

    def start(self) -> None:
        """Prepares a new run: the seed, and the recipe's initial weights."""
        self._step.seed.assign(self._recipe.seed)
        if self._recipe.init_weights:
            self._load_initial_weights()

    def _load_initial_weights(self):
        """Starts from the recipe's `init_weights`, but for a classifier of other classes."""
        raw, start = self._models["raw"], self._recipe.init_weights
        classifier = raw.get_layer("predictions")
        start_at_zero(classifier)  # unless the weights have one of these classes
        report = loading.load_weights(raw, start, adapt=True, family=self._recipe.family)
        if report.exact:  # otherwise it has said so itself
            log.info(str(report))
        if self._is_of_other_classes(start):
            start_at_zero(classifier)
        log.info(self._origin(report, new=not np.any(classifier.kernel.numpy())))
        for constant, values in zip(self.constants.values(), _normalize(raw).constants()):
            constant.assign(values)
        self.hand_on_constants()
        copy_weights(self._models)

    def _origin(self, report, new):
        """Says what came from the initial weights, and what is new."""
        total = len(report.matched) + len(report.reshaped) + len(report.missing)
        if not new:
            return f"All {total} variables are from '{report.source}', the classifier's too."
        taken = total - len(self._models["raw"].get_layer("predictions").weights)
        return (
            f"{taken} of {total} variables are from '{report.source}'; new: the classifier "
            f"({len(self._class_names)} classes), starting at zero."
        )

    def _is_of_other_classes(self, start):
        """Whether weights are of a run of ours on other classes; of a file nobody knows."""
        run = locate.run_of(start)
        if run is None:
            return False
        path = os.path.join(run, "classes.json")
        return storage.exists(path) and texts.read_classes(path) != self._class_names

    def hand_on_constants(self) -> None:
        """Gives every model the pixel constants of the state; before the first step."""
        for model in self._models.values():
            layer = _normalize(model)
            layer.mean.assign(self.constants["mean"])
            layer.std.assign(self.constants["std"])

    # --- what a checkpoint holds --------------------------------------------------------------

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns {name: array} of all variables."""
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def restore(self, values: dict[str, np.ndarray]) -> None:
        """Takes over a snapshot.

        Args:
            values: {name: array}, as `snapshot` returns them.

        Raises:
            InputError: it is of another network, recipe or version.
        """
        expected = {name: tuple(variable.shape) for name, variable in self.variables.items()}
        found = {name: np.shape(value) for name, value in values.items()}
        if expected != found:
            odd = sorted(
                name for name in {**expected, **found} if expected.get(name) != found.get(name)
            )
            raise InputError(
                f"The checkpoint is of another version of effnet_tf, or another "
                f"program ({len(odd)} entries differ, such as '{odd[0]}'): use "
                "another --workdir, and --init_weights to start from it."
            )
        for name, variable in self.variables.items():
            variable.assign(values[name])
        self.hand_on_constants()

    # --- the running epoch --------------------------------------------------------------------

    def means(self) -> tuple[float, float]:
        """Returns (loss per image, accuracy in [0, 1]) of the running epoch so far."""
        sums = {name: float(value.numpy()) for name, value in self.totals.items()}
        images = max(sums["images"], 1.0)
        return sums["loss"] / images, sums["correct"] / images

    def note_thresholds(self, thresholds: np.ndarray | None) -> None:
        """Takes down those of the last evaluation; None: an image has one class."""
        if self.thresholds is not None and thresholds is not None:
            self.thresholds.assign(thresholds)

    def end_epoch(self) -> None:
        """Sets the sums of the running epoch to zero."""
        for variable in self.totals.values():
            variable.assign(0.0)


def _normalize(model):
    """Returns the layer that holds the pixel constants."""
    return next(layer for layer in model.layers if isinstance(layer, Normalize))


def _group(path):
    """Moving statistics are told apart by name: the optimiser and L2 never touch them."""
    if "moving_" in path:
        return "batch_norm/"
    return "weights/"


def copy_weights(models: dict[str, keras.Model]) -> None:
    """Gives the model of the averages, if there is one, the weights of the raw model."""
    if "ema" in models:
        for average, variable in zip(models["ema"].weights, models["raw"].weights):
            average.assign(variable.value)
