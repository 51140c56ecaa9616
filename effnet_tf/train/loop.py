"""In which order does a run train, evaluate and save?

The walk over epochs, and inside an epoch over loops of steps that run on the device without
coming back to Python. Everything that it decides is a function of the state and the recipe, so
that a resumed run decides the same.
"""

import contextlib
import time

import tensorflow as tf

from effnet_tf.data import bad_images
from effnet_tf.messages import log
from effnet_tf.recipes import stages
from effnet_tf.runs import evaluations
from effnet_tf.train.bad_list import BadList
from effnet_tf.train.goodput import Goodput
from effnet_tf.train.guard import Guard
from effnet_tf.train.interruption import Interruption
from effnet_tf.train.journal import Journal
from effnet_tf.train.profiling import Profiler
from effnet_tf.train.reporting import Progress, doubt
from effnet_tf.train.saving import Saver
from effnet_tf.train.strategy import any_worker, has_workers, is_chief
from effnet_tf.train.trainer import Trainer

TOGETHER = 10  # steps after which several workers ask each other whether to go on


class Loop:
    """Runs a `Trainer` to its end, epoch by epoch, and keeps the run directory.

    Args:
        trainer: a `Trainer`.
        saver: its checkpoints.
        journal: what the run writes about itself.
        profiler: records some steps.
        goodput: where the time goes.
        interruption: whether the run must end.
    """

    def __init__(
        self,
        trainer: Trainer,
        saver: Saver,
        journal: Journal,
        profiler: Profiler,
        goodput: Goodput,
        interruption: Interruption,
    ):
        self._trainer, self._recipe, self._saver = trainer, trainer.recipe, saver
        self._journal, self._profiler = journal, profiler
        self._goodput, self._interruption = goodput, interruption
        self._is_chief = is_chief(trainer.strategy)
        self._several = has_workers(trainer.strategy)
        self._guard = Guard(trainer, saver, goodput)
        self._bad_list = BadList(trainer, journal.workdir)
        self._progress: Progress | None = None
        self._iterator = self._stage = None
        if not self._several:  # several workers must end their loops at the same step
            interruption.on_notice = lambda: trainer.stop.assign(True)
            if interruption.reason:
                interruption.on_notice()

    def close(self) -> None:
        """Ends the background work, and writes where the time went."""
        self._interruption.leaving()
        with contextlib.ExitStack() as stack:  # each of them, whatever the others raise
            stack.callback(self._saver.close)
            stack.callback(self._journal.close)
            stack.callback(self._profiler.close)
            if self._progress:
                self._progress.close()
            if self._is_chief and self._saver.has_saved:
                stack.callback(self._goodput.write)
                log.info(str(self._goodput))

    def run(self) -> dict[str, float]:
        """Trains from where the run directory is to the end; returns the last metrics."""
        trainer, journal = self._trainer, self._journal
        self._resume()
        self._progress = Progress(trainer, not self._is_chief, self._several)
        journal.open()
        while not (trainer.is_done or journal.is_out_of_patience()):
            self._epoch()
        self._saver.leave_together()
        if not journal.history:  # complete, but somebody removed metrics.jsonl
            journal.history = [
                dict(step=trainer.step, epoch=self._recipe.epochs, **self._evaluate())
            ]
        last = journal.finish()
        log.info(f"Done: {evaluations.of_images(last)}; the run is in {journal.workdir}")
        return last

    def _resume(self):
        """Takes over the newest checkpoint, or begins from the initial weights."""
        found = self._saver.newest()
        if found:
            self._trainer.restore(found[1])
            log.info(f"Resumed from {self._saver.folder}, step {found[0]:,}")
        else:
            self._trainer.start()
        if self._is_chief:
            self._goodput.load()
        if found:
            self._saver.stands_at_saved()
        else:
            self._saver.save()  # something to go back to; and the disk is tried at once
        self._journal.read_history()
        self._bad_list.recall()
        self._goodput.switch("other")

    # --- an epoch -----------------------------------------------------------------------------

    def _epoch(self):
        """Trains to the next whole epoch, or to where it must go back; evaluates, saves."""
        trainer, every = self._trainer, self._recipe.checkpoint_every
        epoch, end = trainer.current_epoch()
        self._progress.begin_epoch()
        while trainer.step < end:
            self._open_images()
            if not self._steps(end):
                return  # the epoch of the checkpoint may be another one: look again
            self._show(epoch)
            self._note_bad()
            self._saver.check_interrupted()
            # The last step of an epoch is saved once, after its evaluation.
            if every and trainer.step % every == 0 and trainer.step < end:
                self._saver.save()
        self._progress.end_epoch(self._end_epoch(epoch))
        self._saver.save_best(self._journal.history)
        self._saver.save()
        self._note_bad()

    def _open_images(self):
        """Goes on with the same images, unless a stage begins: it has others, and other steps."""
        trainer, stage = self._trainer, self._trainer.stage
        if stage != self._stage:
            trainer.begin_stage(stage)
            self._progress.begin_stage(stage)
            self._stage, self._iterator = stage, None
        if self._iterator is None:
            self._iterator = trainer.train_iterator(trainer.position, stage)

    def _count(self, end):
        """Returns how many steps to run before Python looks again; none of it changes them."""
        count = min(self._progress.next_steps(), min(end, self._stage.end) - self._trainer.step)
        count = self._profiler.limit(count)
        if self._several:
            count = min(count, TOGETHER)
        every = self._recipe.checkpoint_every
        if every:
            count = min(count, every - self._trainer.step % every)
        return count

    def _steps(self, end):
        """Runs some steps; returns False if the run has gone back to a checkpoint instead."""
        trainer, progress, position = self._trainer, self._progress, self._trainer.position
        count, purpose = self._count(end), "start_up"
        if progress.compiled:
            purpose = "steps"
        self._profiler.begin_steps()
        begun = time.monotonic()
        with self._goodput.timed(purpose), progress.compiling():
            waited = float(trainer.train_steps(self._iterator, tf.constant(count)))
            rows = trainer.rows_since(position)
        seconds = time.monotonic() - begun
        self._profiler.end_steps(len(rows))
        if progress.compiled:
            # On a TPU the wait is an upper bound: it cannot be more than all of the time.
            waited = min(waited, seconds)
            self._goodput.move(waited, "steps", "data_wait")
        # Fewer rows than steps were asked for where a notice has ended the loop.
        self._interruption.at_stake |= len(rows) > 0
        progress.steps_done(len(rows), seconds, waited)
        doubt(trainer, position, rows)
        went_on = self._guard.count(position, rows, self._stage)
        if not went_on:
            self._iterator = None  # the batches go on from elsewhere
            self._journal.read_history()
        return went_on

    def _show(self, epoch):
        trainer, progress = self._trainer, self._progress
        loss, accuracy = trainer.state.means()
        rate = trainer.learning_rate()
        progress.show(epoch, trainer.step, loss, accuracy, rate)
        if self._is_chief:
            self._goodput.write_sometimes()
            self._journal.scalars(progress.numbers(loss, accuracy, rate))

    def _evaluate(self):
        with self._goodput.timed("evaluation"), self._progress.waiting("evaluating"):
            evaluated = self._trainer.evaluate()
        if evaluated is None:
            self._saver.check_interrupted()  # leaves; the next process evaluates this epoch
        return evaluated

    def _end_epoch(self, epoch):
        """Evaluates; returns the row of metrics, which holds nothing of time or chance."""
        trainer, evaluated = self._trainer, self._evaluate()
        loss, accuracy = trainer.state.means()
        metrics = dict(
            step=trainer.step,
            epoch=epoch,
            train_loss=loss,
            train_accuracy=accuracy,
            learning_rate=trainer.learning_rate(),
            **stages.at(trainer.stages, trainer.step - 1).metrics(),
            **evaluated,
        )
        trainer.state.end_epoch()
        self._journal.add(metrics)
        return metrics

    def _note_bad(self):
        """Lists the images that proved bad; if they are too many, saves, and all workers stop."""
        error = self._bad_list.note()
        if any_worker(self._trainer.strategy, error is not None):
            self._saver.save()
            self._saver.leave_together()
            raise error or bad_images.TooManyBad(
                "Too many images cannot be used: see the message of the first worker."
            )
