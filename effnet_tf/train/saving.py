"""When is the state of a run on disk, and how does a run leave so that it can go on?"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from effnet_tf.errors import InputError, Preempted, SaveError
from effnet_tf.runs import checkpoints, evaluations, locate
from effnet_tf.train.goodput import Goodput
from effnet_tf.train.interruption import Interruption
from effnet_tf.train.strategy import any_worker, is_chief, mean_over_workers
from effnet_tf.train.trainer import Trainer


class Saver:
    """The checkpoints of a run; of several workers the first writes, and all read.

    Args:
        trainer: a `Trainer`.
        workdir: directory of the run.
        check_claim: function that raises an InputError if another process has taken over.
        goodput: books the time that saving takes.
        interruption: knows whether the run must end.

    Attributes:
        folder: where the checkpoints lie.
    """

    def __init__(
        self,
        trainer: Trainer,
        workdir: str,
        check_claim: Callable[[], None],
        goodput: Goodput,
        interruption: Interruption,
    ):
        self._trainer, self._workdir, self._check_claim = trainer, workdir, check_claim
        self._goodput, self._interruption = goodput, interruption
        self._strategy, self._is_chief = trainer.strategy, is_chief(trainer.strategy)
        self.folder = os.path.join(workdir, "checkpoints")
        self._store = checkpoints.Store(
            self.folder, trainer.recipe.keep_checkpoints, trainer.recipe.background_saves
        )
        # Not in the background: it must be on disk before the epoch's own checkpoint is.
        self._best = checkpoints.Store(os.path.join(workdir, locate.BEST), keep=1)
        self._saved = None  # (step, whether inside an epoch) of the newest checkpoint

    @property
    def has_saved(self) -> bool:
        """Whether the workdir holds a checkpoint of this run."""
        return self._saved is not None

    def newest(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Returns (step, {name: array}) of the newest unharmed checkpoint, or None.

        Raises:
            InputError: of several workers, some read another one.
        """
        self._store.wait()
        mean_over_workers(self._strategy, 0.0)  # until the first has written all
        found = self._store.newest()
        step = -1.0
        if found:
            step = float(found[0])
        if any_worker(self._strategy, step != mean_over_workers(self._strategy, step)):
            raise InputError(
                f"The workers find different checkpoints in '{self._workdir}', this "
                f"one step {step:.0f}: all workers must share the workdir."
            )
        return found

    def stands_at_saved(self) -> None:
        """Notes that the state is that of the newest checkpoint: nothing is to be saved."""
        self._saved = self._place()

    def _place(self):
        return self._trainer.step, self._trainer.is_inside_epoch

    def save(self) -> None:
        """Saves the state, unless it stands there already; only the first worker does.

        Raises:
            SaveError: this checkpoint, or the one before, cannot be written.
        """
        if not self._is_chief or self._saved == self._place():
            return
        with self._goodput.timed("checkpoint"):
            self._check_claim()
            self._store.save(self._trainer.step, self._trainer.snapshot())
        self._saved = self._place()
        self._goodput.checkpointed()
        self._goodput.write()

    def save_best(self, history: Sequence[dict]) -> None:
        """Keeps the state beside the others, if the recipe says so and no epoch was better.

        It comes before the epoch's own checkpoint: a run that is resumed at that one has this
        one, too, and a run that is resumed before it comes here again.

        Args:
            history: the metrics of every epoch, the last one's included.
        """
        if not self._is_chief or self._trainer.recipe.keep != "best":
            return
        step = evaluations.step_of_best(self._best.folder)
        kept = [row for row in history[:-1] if row["step"] == step]
        if kept and not evaluations.is_better(history[-1], kept[-1]):
            return
        with self._goodput.timed("checkpoint"):
            self._check_claim()
            self._best.save(self._trainer.step, self._trainer.snapshot())

    def check_interrupted(self) -> None:
        """Saves and leaves if the machine goes away, or if a background save has failed.

        Raises:
            KeyboardInterrupt: Ctrl-C came.
            Preempted: the machine will be taken away; the state is saved.
            SaveError: a checkpoint could not be written.
        """
        if self._interruption.interrupted:  # its KeyboardInterrupt was lost somewhere
            raise KeyboardInterrupt
        error = None
        try:
            self._store.poll()
        except SaveError as caught:
            error = caught
        # Every worker asks the same questions in the same order: each is a barrier.
        leaving = any_worker(self._strategy, bool(self._interruption.reason))
        if leaving and error is None:
            self.save()
        if leaving or any_worker(self._strategy, error is not None):
            self.leave_together(error)
        if leaving:
            self._leave()

    def _leave(self):
        reason = self._interruption.reason or "of another worker"
        if not self._trainer.step:
            raise Preempted(self._interruption.nothing_made(reason))
        raise Preempted(
            f"Saved step {self._trainer.step:,} after the notice ({reason}): the "
            "same command goes on from there."
        )

    def leave_together(self, error: SaveError | None = None) -> None:
        """Waits until all is on disk.

        Args:
            error: what has failed before.

        Raises:
            SaveError: something failed, on this worker or on another one.
        """
        try:
            self._store.wait()
        except SaveError as caught:
            error = error or caught
        if any_worker(self._strategy, error is not None):
            raise error or SaveError("Another worker could not write a checkpoint.")

    def close(self) -> None:
        """Ends the threads that write."""
        self._best.close()
        self._store.close()
