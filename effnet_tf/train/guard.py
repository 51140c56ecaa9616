"""What happens when a step is bad: its loss or gradients not finite, or its loss far too high?

The step itself has changed nothing (step.py). Here it is counted and reported; after too many
in a row the run goes back to its newest checkpoint.
"""

import numpy as np

from effnet_tf.errors import TrainingStopped
from effnet_tf.messages import log
from effnet_tf.recipes.stages import Stage
from effnet_tf.train import diagnosis
from effnet_tf.train.goodput import Goodput
from effnet_tf.train.saving import Saver
from effnet_tf.train.step import CORRECT, GOOD, IMAGES, LOSS, NOT_FINITE
from effnet_tf.train.trainer import Trainer


class Guard:
    """Counts the steps of a run, and goes back when too many in a row are bad.

    Args:
        trainer: a `Trainer`.
        saver: what finds the checkpoint to go back to.
        goodput: books the work that is lost thereby.
    """

    def __init__(self, trainer: Trainer, saver: Saver, goodput: Goodput):
        self._trainer, self._saver, self._goodput = trainer, saver, goodput
        self._recipe = trainer.recipe

    def count(self, position: int, rows: np.ndarray, stage: Stage) -> bool:
        """Adds rows of steps to the epoch's totals, one by one: however they were grouped.

        Args:
            position: number of the first of these batches.
            rows: (steps, 5) float32, as `Trainer.rows_since` returns them.
            stage: that of these steps.

        Returns:
            False if too many in a row were bad, and the run has gone back.

        Raises:
            TrainingStopped: it has gone back too often.
        """
        state = self._trainer.state
        sums = {name: float(variable.numpy()) for name, variable in state.totals.items()}
        bad = int(state.guard["bad_steps"].numpy())
        forgiven = int(state.guard["forgiven"].numpy())
        step = self._trainer.step - int(sum(row[GOOD] for row in rows))
        for number, row in enumerate(rows, position):
            if row[GOOD]:
                bad, step = 0, step + 1
                for name, column in (("loss", LOSS), ("correct", CORRECT), ("images", IMAGES)):
                    sums[name] += float(row[column])
                continue
            self._report(number, step, row)
            if number >= forgiven:
                bad += 1
            if bad >= self._recipe.max_bad_steps:
                self._go_back(number, step, stage)
                return False
        state.guard["bad_steps"].assign(bad)
        for name, value in sums.items():
            state.totals[name].assign(value)
        return True

    def _report(self, number, step, row):
        what = f"the loss is {row[LOSS] / row[IMAGES]:.3g}, far above what it was"
        if row[NOT_FINITE]:
            what = "loss or gradients are not finite"
        log.info(
            f"\nBatch {number:,} after step {step:,} (learning rate "
            f"{self._learning_rate(step):.3g}): {what}; it changed nothing."
        )

    def _learning_rate(self, step):
        return float(self._trainer.schedule(step))

    def _go_back(self, number, step, stage):
        """Goes back to the newest checkpoint, and again over the batches since, without bad ones.

        If that has been done from the same checkpoint before, its state is the fault: then
        on with the batch after the last bad one.
        """
        trainer, guard = self._trainer, self._trainer.state.guard
        rollbacks = int(guard["rollbacks"].numpy()) + 1
        where = (
            f"{self._recipe.max_bad_steps} steps in a row were bad, the last after step "
            f"{step:,}, learning rate {self._learning_rate(step):.3g}"
        )
        if rollbacks > self._recipe.max_rollbacks:
            self._give_up(where, rollbacks - 1, number, stage)
        self._goodput.lose()
        saved, values = self._saver.newest()
        changes = {
            "guard/rollbacks": rollbacks,
            "guard/forgiven": number + 1,
            "guard/returned_to": saved,
            "guard/bad_steps": 0,
        }
        if int(guard["returned_to"].numpy()) == saved:
            changes["position"] = number + 1
        trainer.restore({**values, **changes})
        self._saver.stands_at_saved()
        log.info(
            f"{where}: back to the checkpoint of step {saved:,}, and on with batch "
            f"{trainer.position:,} (time {rollbacks} of {self._recipe.max_rollbacks})."
        )

    def _give_up(self, where, times, number, stage):
        found = diagnosis.first_not_finite(self._trainer, number, stage)
        raise TrainingStopped(
            f"Training has diverged: {where}, after going back {times} times. {found} "
            "Start again with a smaller --base_learning_rate in another --workdir; the "
            "checkpoints here are finite."
        )
