"""What does a person see of a run while it goes on: the line of progress, TensorBoard?"""

import contextlib
import os
import time

import numpy as np
import tensorflow as tf

from effnet_tf import extras, plots, progress, storage
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe, stages
from effnet_tf.runs import evaluations
from effnet_tf.train.step import IMAGES, LOSS
from effnet_tf.train.trainer import Trainer

LOOK = 5.0  # seconds between two looks at how far training is
WAITING = 0.3  # share of the time; beyond it the data are the bottleneck
STARVED = 2  # loops in a row; a single one may have met an empty buffer
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
        several: whether there are several workers, which must all make as many steps at once.

    Attributes:
        compiled: whether the first step has been made, which takes a while.
        rate: images per second of the last loop of steps.
        wait: share of its time, in [0, 1], that the device waited for images.
    """

    def __init__(self, trainer: Trainer, quiet: bool = False, several: bool = False):
        self._recipe, self._total, self._quiet = trainer.recipe, trainer.total_steps, quiet
        self._several, self._held_out_size = several, trainer.size
        self._clock, self._stages = EpochClock(trainer), trainer.stages
        self._stage = stages.at(trainer.stages, trainer.step)
        self.compiled, self.rate, self.wait = False, 0.0, 0.0
        self._text = f"step {trainer.step:,}/{self._total:,}"
        self._line, self._advised, self._starved = None, False, 0
        if trainer.step < self._total:
            log.info("Compiling the first step; this takes a while ...")

    def begin_stage(self, stage: stages.Stage) -> None:
        """Begins a stage, whose first step is compiled; says so, if the run has several."""
        # Until it is measured, the rate is taken to fall as the number of pixels grows.
        self.rate *= (self._stage.image_size / stage.image_size) ** 2
        self._stage, self.compiled = stage, False
        if stage.count > 1 and not self._quiet:
            self.close()
            log.info(
                f"Stage {stage.number} of {stage.count}, steps {stage.first_step + 1:,} to "
                f"{stage.end:,}: training images of {stage}"
            )

    def next_steps(self) -> int:
        """Returns how many steps to run at once: a single one first, which compiles.

        Then one that shows how long a step takes, and then as many as take `LOOK` seconds.
        """
        most = self._recipe.steps_per_loop
        if not self.compiled:
            return 1
        if self._several:
            return most
        if not self.rate:
            return 1
        return min(most, max(1, int(LOOK * self.rate / self._recipe.batch_size)))

    def steps_done(self, steps: int, seconds: float, waited: float) -> None:
        """Takes down a loop: its steps, its time, and how much of it was waiting for data."""
        self._clock.stepped(seconds)
        if self.compiled and steps:
            self.rate = steps * self._recipe.batch_size / seconds
            self.wait = waited / seconds
            self._starved = self._starved + 1 if self.wait > WAITING else 0
        self.compiled = True

    def waiting(self, what: str) -> contextlib.AbstractContextManager[None]:
        """Returns a context that shows behind the line what goes on inside, and for how long."""
        return progress.every_second(lambda time: self._say(f"{self._text}  {what} {time}"))

    def compiling(self) -> contextlib.AbstractContextManager[None]:
        """Returns the context of a loop of steps: the first one shows that it is compiled."""
        if self.compiled:
            return contextlib.nullcontext()
        what = "compiling the first step"
        if self._stage.number > 1:
            what += f" of stage {self._stage.number}"
        return self.waiting(what)

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
            f"epoch {epoch}/{self._recipe.epochs}  {self._stage_text()}"
            f"step {step:,}/{self._total:,}  loss {loss:.3f}  accuracy {accuracy:.1%}  "
            f"rate {learning_rate:.3g}  "
            f"{self.rate:,.0f} images/s  data wait {self.wait:.0%}  {self._left(epoch, step)} left"
        )
        self._say(self._text)
        if self._starved >= STARVED and not self._advised and not self._quiet:
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
            **self._stage.metrics(),
        }

    def _stage_text(self):
        if self._stage.count == 1:
            return ""
        return f"stage {self._stage.number}/{self._stage.count}  "

    def _left(self, epoch, step):
        if not self.rate:
            return "?"
        size = self._stage.image_size
        steps = stages.work_left(self._stages, step, size) * self._recipe.batch_size / self.rate
        held_out_rate = self.rate * (size / self._held_out_size) ** 2
        return progress.clock(
            steps + (self._recipe.epochs - epoch + 1) * self._clock.beside(held_out_rate)
        )

    def _say(self, text):
        if self._line is None:
            self._line = progress.line(shown=not self._quiet)
        self._line.say(text)

    def end_epoch(self, metrics: dict[str, float]) -> None:
        """Ends the epoch's line with the evaluation."""
        self._clock.evaluated = True
        text = f"{self._text}  held-out {evaluations.told(metrics)}"
        if "eval_accuracy_ema" in metrics:
            text += f" (raw weights {evaluations.told(metrics, 'raw')})"
        self._say(text)
        self.close()

    def begin_epoch(self) -> None:
        """Notes that the epoch before, with its evaluation and its checkpoint, is over."""
        self._clock.begin()

    def close(self) -> None:
        """Ends the line."""
        if self._line is not None:
            self._line.close()
        self._line = None


class EpochClock:
    """How much time of an epoch goes beside its steps: to evaluation and checkpoints.

    Args:
        trainer: a `Trainer`.

    Attributes:
        evaluated: whether the running epoch has had its evaluation.
    """

    def __init__(self, trainer: Trainer):
        # Forward alone is a third of a step, and every model is evaluated.
        self._images = trainer.source.num_eval * max(len(trainer.models), 1) / 3
        self._measured: float | None = None
        self.evaluated, self._begun, self._in_steps = False, time.monotonic(), 0.0

    def begin(self) -> None:
        """Begins an epoch; the one before is measured, if it was evaluated."""
        now = time.monotonic()
        if self.evaluated:
            self._measured = max(now - self._begun - self._in_steps, 0.0)
        self.evaluated, self._begun, self._in_steps = False, now, 0.0

    def stepped(self, seconds: float) -> None:
        """Takes down a loop of steps."""
        self._in_steps += seconds

    def beside(self, rate: float) -> float:
        """Returns the seconds beside the steps of an epoch; estimated until one is over.

        Args:
            rate: images per second in training, were they of the size of the held-out ones.
        """
        if self._measured is None:
            return self._images / rate
        return self._measured


def doubt(trainer: Trainer, position: int, rows: np.ndarray) -> None:
    """Warns of a first loss that no good start has.

    Args:
        trainer: what is trained; a start from random weights may have any loss.
        position: number of the first of some batches.
        rows: (steps, 5) float32, as `Trainer.rows_since` returns them.
    """
    start = trainer.recipe.init_weights
    if position or not start or not len(rows):
        return
    objective, loss = trainer.train_step.objective, rows[0][LOSS] / rows[0][IMAGES]
    if loss > DOUBTFUL * objective.guessing:
        log.warning(
            f"\nThe first batch has a loss of {loss:.2f}, and guessing would have "
            f"{objective.guessing:.2f} (ln {objective.outcomes}): the classifier of '{start}' is "
            "sure of wrong classes. Are its classes those of this data set, in the same order? "
            "Training goes on, and has to undo that first."
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
