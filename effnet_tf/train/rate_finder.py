"""Which learning rate suits a recipe, by a short sweep from far too low to far too high?

Every step has a higher rate than the one before, as in arXiv 1506.01186, section 3.3. Where the
loss, smoothed, is lowest, the rate is on the edge of too high, and that is suggested: recipes only
come near their rate, after a warm-up and before a decay. The tenth of it that others suggest was
far too low here (docs/training.md). A sweep of some steps says little of the end of a run.
"""

import dataclasses
import os

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from effnet_tf import data, extras, plots, progress, storage
from effnet_tf.data import bad_images
from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe
from effnet_tf.train.step import GOOD, IMAGES, LOSS
from effnet_tf.train.strategy import choose_strategy, has_workers, is_chief
from effnet_tf.train.trainer import Trainer

STEPS = 100
LOWEST, HIGHEST = 1e-3, 1e2  # times the recipe's own rate
AT_ONCE = 5  # steps, between two looks
WIDTH = 9  # steps over which losses are averaged
DIVERGED = 4  # times the lowest smoothed loss: the sweep ends


class Sweep(keras.optimizers.schedules.LearningRateSchedule):
    """`low * (high / low) ** (step / (steps - 1))`: as many steps in every decade."""

    def __init__(self, low: float, high: float, steps: int):
        self.low, self.high, self.steps = low, high, steps

    def __call__(self, step):
        done = ops.cast(step, "float32") / (self.steps - 1)
        return self.low * ops.power(self.high / self.low, done)

    def get_config(self) -> dict[str, float]:
        """Returns the arguments of the constructor."""
        return {"low": self.low, "high": self.high, "steps": self.steps}


def find_learning_rate(
    recipe: Recipe, path: str, strategy: tf.distribute.Strategy | None = None
) -> float | None:
    """Draws the loss over the learning rate, and says which one it suggests; takes none.

    Args:
        recipe: a `Recipe`; the sweep starts as a new run of it would.
        path: of the PNG file to write.
        strategy: a tf.distribute strategy of one process; by default `choose_strategy()`.

    Returns:
        A `base_learning_rate`, per 256 images of the batch; None if the sweep suggests none.

    Raises:
        InputError: a recipe or data set that cannot be used, or several workers.
    """
    plots.require("Drawing the sweep")
    extras.require_for_training(recipe)
    source = data.open_source(recipe)
    bad_images.check(source, recipe.max_bad_fraction)
    strategy = strategy or choose_strategy()
    if has_workers(strategy) and not is_chief(strategy):
        raise InputError(
            "A sweep of the learning rate runs in one process: start it on one worker."
        )
    rates, losses = _sweep(recipe, source, strategy)
    smoothed = smooth(losses)
    suggested = suggestion(rates, smoothed)
    if os.path.dirname(path):
        tf.io.gfile.makedirs(os.path.dirname(path))
    with storage.writing(os.path.dirname(path)):
        drawn = plots.rate_sweep(rates, losses, smoothed, suggested, path)
    if drawn:
        log.info(f"Drew loss over learning rate: {path}")
    _tell(recipe, rates, suggested)
    return suggested


def _sweep(recipe, source, strategy):
    """Returns the rates, per 256 images, and losses (n,) of the steps until it diverges."""
    # Without averages, which no step looks at, and without the guard, which would undo it.
    plain = dataclasses.replace(recipe, ema_decay=0.0, loss_spike=0.0, extended_at=0)
    log.info(f"Building the network for a sweep of {STEPS} steps ...")
    trainer = Trainer(plain, source, strategy)
    peak = recipe.learning_rate() or 1.0
    trainer.optimizer.learning_rate = Sweep(LOWEST * peak, HIGHEST * peak, STEPS)
    trainer.start()
    if len(trainer.stages) > 1:
        log.info(f"As a new run begins: with images of {trainer.stages[0]} (stage 1).")
    iterator, losses = trainer.train_iterator(0), np.zeros(0)
    with progress.bar("Sweeping the learning rate", STEPS, unit="steps") as bar:
        while len(losses) < STEPS and not _has_diverged(losses):
            position = trainer.position
            trainer.train_steps(iterator, tf.constant(min(AT_ONCE, STEPS - len(losses))))
            rows = trainer.rows_since(position)
            means = np.where(rows[:, GOOD] > 0, rows[:, LOSS] / rows[:, IMAGES], np.nan)
            losses = np.concatenate([losses, means])
            bar.update(len(rows))
    per_256 = peak * 256 / recipe.batch_size
    rates = per_256 * LOWEST * (HIGHEST / LOWEST) ** (np.arange(len(losses)) / (STEPS - 1))
    finite = np.isfinite(losses)
    return rates[finite], losses[finite]


def _has_diverged(losses):
    if not np.isfinite(losses).all():
        return True
    if len(losses) < 2 * WIDTH:
        return False
    smoothed = smooth(losses)
    return bool(smoothed[-1] > DIVERGED * smoothed.min())


def smooth(losses: np.ndarray) -> np.ndarray:
    """Returns the mean of each loss and its neighbours, fewer at the ends: (n,) -> (n,)."""
    half = WIDTH // 2
    windows = [losses[max(0, place - half) : place + half + 1] for place in range(len(losses))]
    return np.array([window.mean() for window in windows])


def suggestion(rates: np.ndarray, smoothed: np.ndarray) -> float | None:
    """Returns the rate that a sweep suggests, to two digits.

    None where the loss is lowest at either end: it never fell, or never rose again.
    """
    if len(smoothed) < 2 * WIDTH:
        return None
    lowest = int(np.argmin(smoothed))
    if lowest < WIDTH or lowest >= len(smoothed) - WIDTH // 2:
        return None
    return float(f"{rates[lowest]:.1e}")


def _tell(recipe, rates, suggested):
    if suggested is None:
        log.info(
            "No rate is suggested: in this sweep, from "
            f"{rates[0]:.2g} to {rates[-1]:.2g}, the loss has no lowest place with a rise behind "
            "it. Look at the picture, or sweep around another --base_learning_rate."
        )
        return
    log.info(
        f"Suggested: --base_learning_rate {suggested:g} (per 256 images; the recipe has "
        f"{recipe.base_learning_rate:g}), where the loss was lowest. Nothing was changed: give "
        "it to take it."
    )
