"""What does a person see of a run: the line on the terminal, TensorBoard, where the time went?"""

import contextlib
import json
import os
import sys
import time

import tensorflow as tf

from effnet_tf import extras, plots, storage, terminal
from effnet_tf.errors import first_line
from effnet_tf.runs import texts

WAITING = 0.3  # share of the time; beyond it the data are the bottleneck


class Goodput:
    """Where the time of a run went: seconds by purpose, which add up to the wall time.

    It goes on from `goodput.json`, so that it covers all processes of a run; what a
    killed process did after its last checkpoint is lost work.

    Args:
        workdir: directory of the run.
    """

    PURPOSES = ("steps", "data_wait", "checkpoint", "evaluation", "start_up", "lost_work", "other")
    WORK = ("steps", "data_wait")  # what is lost with the steps

    def __init__(self, workdir):
        self.path = os.path.join(workdir, "goodput.json")
        self.seconds = dict.fromkeys(self.PURPOSES, 0.0)
        self._purpose = "start_up"
        self._since = self._written = time.monotonic()
        self.saved = dict.fromkeys(self.WORK, 0.0)  # seconds of it that checkpoints hold

    def load(self):
        """Takes over what earlier processes of this run spent."""
        if not tf.io.gfile.exists(self.path):
            return
        try:
            before = storage.parse_json(storage.read_bytes(self.path, texts.MOST))
            earlier = {purpose: float(before["seconds"][purpose]) for purpose in self.PURPOSES}
            saved = self._shares(before["saved"], earlier)
        except (
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            OSError,
            tf.errors.OpError,
        ) as error:
            print(
                f"'{self.path}' is damaged ({first_line(error)}): the time of earlier processes "
                "is not counted."
            )
            return
        for purpose, spent in earlier.items():
            self.seconds[purpose] += spent
        self.saved = saved
        self.lose()

    def _shares(self, saved, seconds):
        """Returns the saved seconds by purpose; earlier versions wrote their sum."""
        if isinstance(saved, dict):
            return {purpose: float(saved[purpose]) for purpose in self.WORK}
        work = sum(seconds[purpose] for purpose in self.WORK)
        share = min(float(saved) / work, 1.0) if work else 0.0
        return {purpose: share * seconds[purpose] for purpose in self.WORK}

    def lose(self):
        """Books the work since the last checkpoint as lost."""
        self._book()
        for purpose in self.WORK:
            lost = self.seconds[purpose] - self.saved[purpose]
            self.move(max(lost, 0.0), purpose, "lost_work")

    def _book(self):
        now = time.monotonic()
        self.seconds[self._purpose] += now - self._since
        self._since = now

    def switch(self, purpose):
        """Books the time since the last call, and goes on with another purpose."""
        self._book()
        before, self._purpose = self._purpose, purpose
        return before

    @contextlib.contextmanager
    def timed(self, purpose):
        """Books the time inside on a purpose; may be nested."""
        before = self.switch(purpose)
        try:
            yield
        finally:
            self.switch(before)

    def move(self, seconds, source, target):
        """Books seconds of one purpose on another."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    def checkpointed(self):
        """Notes that all work so far is in a checkpoint."""
        self._book()
        self.saved = {purpose: self.seconds[purpose] for purpose in self.WORK}

    def write(self):
        """Writes goodput.json."""
        self._book()
        self._written = self._since
        storage.write_text(
            self.path,
            json.dumps(
                {"seconds": self.seconds, "total": sum(self.seconds.values()), "saved": self.saved},
                indent=2,
            )
            + "\n",
        )

    def write_sometimes(self):
        """Writes it every ten seconds: a killed process cannot."""
        if time.monotonic() - self._written > 10:
            self.write()

    def __str__(self):
        self._book()
        total = sum(self.seconds.values())
        parts = ", ".join(
            f"{purpose.replace('_', ' ')} {seconds:.1f} s ({seconds / total:.0%})"
            for purpose, seconds in self.seconds.items()
        )
        return f"Time: {total:.1f} s = {parts}"


class Progress:
    """The line a person watches: epoch, step, loss, accuracy, rate, images/s, time left.

    On a terminal it is rewritten; a log file gets a line per minute and per epoch.

    Args:
        trainer: a `Trainer`.
        quiet: of several workers, all but the first.
    """

    def __init__(self, trainer, quiet=False):
        self.recipe, self.total = trainer.recipe, trainer.total_steps
        self.rate = self.wait = 0.0
        self.line = f"step {trainer.step:,}/{self.total:,}"
        self.compiled, self.quiet, self._advised = False, quiet, False
        self.live, self.printed = sys.stdout.isatty(), time.monotonic()
        if trainer.step < self.total:
            print("Compiling the first step; this takes a while ...", flush=True)

    def next_steps(self):
        """How many steps to run at once: a single one first, which compiles."""
        return self.recipe.steps_per_loop if self.compiled else 1

    def steps_done(self, steps, seconds, waited):
        """Takes down a loop: its steps, its time, and how much of it was waiting for data."""
        if self.compiled and steps:
            self.rate = steps * self.recipe.batch_size / seconds
            self.wait = waited / seconds
        self.compiled = True

    def show(self, epoch, step, loss, accuracy, learning_rate):
        """Prints the state after some steps."""
        left = (self.total - step) * self.recipe.batch_size / self.rate if self.rate else 0
        self.line = (
            f"epoch {epoch}/{self.recipe.epochs}  step {step:,}/{self.total:,}  "
            f"loss {loss:.3f}  accuracy {accuracy:.1%}  rate {learning_rate:.3g}  "
            f"{self.rate:,.0f} images/s  data wait {self.wait:.0%}  "
            f"{_clock(left) if self.rate else '?'} left"
        )
        now = time.monotonic()
        if self.quiet:
            return
        if self.live:
            sys.stdout.write(terminal.Movement(f"\r{self.line}\033[K"))
            sys.stdout.flush()
        elif now - self.printed > 60:
            print(self.line, flush=True)
            self.printed = now
        if self.wait > WAITING and not self._advised:
            self._advised = True
            print(
                f"\n{self.wait:.0%} of the time the device waits for images: the input pipeline "
                "is too slow for it (more CPU cores, faster storage, smaller files).",
                flush=True,
            )

    def end_epoch(self, metrics):
        """Ends the epoch's line with the evaluation."""
        self.printed = time.monotonic()
        if not self.quiet:
            raw = (
                f" (raw weights {metrics['eval_accuracy_raw']:.2%})"
                if "eval_accuracy_ema" in metrics
                else ""
            )
            start = "\r" if self.live else ""
            sys.stdout.write(
                terminal.Movement(
                    f"{start}{self.line}  held-out {metrics['eval_accuracy']:.2%}{raw}\n"
                )
            )
            sys.stdout.flush()


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class TensorBoard:
    """Scalars, the recipe, and one batch as the network gets it.

    Args:
        workdir: directory of the run.
        recipe: a `Recipe`.
    """

    def __init__(self, workdir, recipe):
        self.workdir, self.writer = workdir, None
        try:  # tf.summary is there without it, and fails in its first call
            extras.load("tensorboard.summary.v2", "A record of the run for TensorBoard")
        except extras.MissingPackage as error:
            print(f"{error}. The same numbers are in metrics.jsonl.")
            return
        with storage.writing(workdir):
            self.writer = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard"))
        with storage.writing(workdir), self.writer.as_default(step=0):
            tf.summary.text("recipe", f"```\n{recipe.to_json()}```")

    def scalars(self, step, values):
        """Writes numbers; flushes, so that they are seen at once."""
        if self.writer:
            with storage.writing(self.workdir), self.writer.as_default(step=step):
                for name, value in values.items():
                    tf.summary.scalar(name, value)
                self.writer.flush()

    def batch(self, images, labels):
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

    def close(self):
        if self.writer:
            with storage.writing(self.workdir):
                self.writer.close()
