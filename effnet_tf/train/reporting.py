"""What does a person see of a run while it goes on: the line of progress, TensorBoard?"""

import math
import os

import numpy as np
import tensorflow as tf

from effnet_tf import extras, plots, progress, storage
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe
from effnet_tf.train.step import IMAGES, LOSS
from effnet_tf.train.trainer import Trainer

WAITING = 0.3  # share of the time; beyond it the data are the bottleneck
# Times the loss of guessing, between what good and bad starts measured: a new classifier has 1, and
# one of the same classes less; one of five whose order is another 2.3, and Lite0's own of ImageNet
# 2.5 on photographs with random labels.
DOUBTFUL = 1.5


class Progress:
    """The line a person watches: epoch, step, loss, accuracy, rate, images/s, time left.

    On a terminal it is live; a log file gets a line per minute and per epoch.

    Args:
        trainer: a `Trainer`.
        quiet: of several workers, all but the first.

    Attributes:
        compiled: whether the first step has been made, which takes a while.
        rate: images per second of the last loop of steps.
        wait: share of its time, in [0, 1], that the device waited for images.
    """

    def __init__(self, trainer: Trainer, quiet: bool = False):
        self._recipe, self._total, self._quiet = trainer.recipe, trainer.total_steps, quiet
        self.compiled, self.rate, self.wait = False, 0.0, 0.0
        self._text = f"step {trainer.step:,}/{self._total:,}"
        self._line, self._advised = None, False
        if trainer.step < self._total:
            log.info("Compiling the first step; this takes a while ...")

    def next_steps(self) -> int:
        """Returns how many steps to run at once: a single one first, which compiles."""
        if self.compiled:
            return self._recipe.steps_per_loop
        return 1

    def steps_done(self, steps: int, seconds: float, waited: float) -> None:
        """Takes down a loop: its steps, its time, and how much of it was waiting for data."""
        if self.compiled and steps:
            self.rate = steps * self._recipe.batch_size / seconds
            self.wait = waited / seconds
        self.compiled = True

    def show(
        self, epoch: int, step: int, loss: float, accuracy: float, learning_rate: float
    ) -> None:
        """Shows the state after some steps.

        Args:
            epoch: number of the running epoch, from 1 on.
            step: steps that the run has made.
            loss: mean over the epoch so far.
            accuracy: of the epoch so far, in [0, 1].
            learning_rate: of the next step.
        """
        self._text = (
            f"epoch {epoch}/{self._recipe.epochs}  step {step:,}/{self._total:,}  "
            f"loss {loss:.3f}  accuracy {accuracy:.1%}  rate {learning_rate:.3g}  "
            f"{self.rate:,.0f} images/s  data wait {self.wait:.0%}  {self._left(step)} left"
        )
        self._say(self._text)
        if self.wait > WAITING and not self._advised and not self._quiet:
            self._advised = True
            log.info(
                f"\n{self.wait:.0%} of the time the device waits for images: the input pipeline "
                "is too slow. More CPU cores, faster storage or smaller files would help."
            )

    def numbers(self, loss: float, accuracy: float, learning_rate: float) -> dict[str, float]:
        """Returns what TensorBoard and other trackers are told after some steps."""
        return {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "learning_rate": learning_rate,
            "images_per_second": self.rate,
            "data_wait": self.wait,
        }

    def _left(self, step):
        if not self.rate:
            return "?"
        return _clock((self._total - step) * self._recipe.batch_size / self.rate)

    def _say(self, text):
        if self._line is None:
            self._line = progress.line(shown=not self._quiet)
        self._line.say(text)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Ends the epoch's line with the evaluation."""
        text = f"{self._text}  held-out {metrics['eval_accuracy']:.2%}"
        if "eval_accuracy_ema" in metrics:
            text += f" (raw weights {metrics['eval_accuracy_raw']:.2%})"
        self._say(text)
        self.close()

    def close(self) -> None:
        """Ends the line."""
        if self._line is not None:
            self._line.close()
        self._line = None


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}"


def doubt(trainer: Trainer, position: int, rows: np.ndarray) -> None:
    """Warns of a first loss that no good start has.

    Args:
        trainer: what is trained; a start from random weights may have any loss.
        position: number of the first of some batches.
        rows: (steps, 5) float32, as `Trainer.rows_since` returns them.
    """
    start, classes = trainer.recipe.init_weights, len(trainer.source.class_names)
    if position or not start or not len(rows):
        return
    loss, guessing = rows[0][LOSS] / rows[0][IMAGES], math.log(classes)
    if loss > DOUBTFUL * guessing:
        log.warning(
            f"\nThe first batch has a loss of {loss:.2f}, and guessing would have {guessing:.2f} "
            f"(ln {classes}): the classifier of '{start}' is sure of wrong classes. Are its "
            "classes those of this data set, in the same order? Training goes on, and has to undo "
            "that first."
        )


class TensorBoard:
    """Scalars, the recipe, and one batch as the network gets it.

    Args:
        workdir: directory of the run.
        recipe: a `Recipe`.
    """

    def __init__(self, workdir: str, recipe: Recipe):
        self.workdir, self.writer = workdir, None
        try:  # tf.summary is there without it, and fails in its first call
            extras.load("tensorboard.summary.v2", "A record of the run for TensorBoard")
        except extras.MissingPackage as error:
            log.info(f"{error}. The same numbers are in metrics.jsonl.")
            return
        with storage.writing(workdir):
            self.writer = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard"))
        with storage.writing(workdir), self.writer.as_default(step=0):
            tf.summary.text("recipe", f"```\n{recipe.to_json()}```")

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes numbers; flushes, so that they are seen at once."""
        if self.writer:
            with storage.writing(self.workdir), self.writer.as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
                self.writer.flush()

    def batch(self, images: np.ndarray, labels: list[str]) -> None:
        """Shows images (N, S, S, 3) uint8 with their class names, in TensorBoard and as PNG."""
        with storage.writing(self.workdir):
            if self.writer:
                with self.writer.as_default(step=0):
                    tf.summary.image("augmented batch", images, max_outputs=len(images))
            plots.predictions(
                list(images),
                list(labels),
                [None] * len(images),
                os.path.join(self.workdir, "augmented.png"),
            )

    def close(self) -> None:
        """Ends the record."""
        if self.writer:
            with storage.writing(self.workdir):
                self.writer.close()
