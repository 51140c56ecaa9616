"""What does a run write about itself: metrics, pictures, TensorBoard, its result?

Of several workers only the first writes; all of them keep the history.
"""

import json
import os
import time
from collections.abc import Callable

import tensorflow as tf

from effnet_tf import data, plots, storage
from effnet_tf.messages import log
from effnet_tf.runs import evaluations, locate, texts
from effnet_tf.train.reporting import TensorBoard
from effnet_tf.train.strategy import is_chief
from effnet_tf.train.trainer import Trainer

SHOWN = 16  # images of the picture of a batch
REDRAW = 60  # seconds between two learning curves


class Journal:
    """The history of a run, in memory and in its directory.

    Args:
        trainer: a `Trainer`.
        workdir: directory of the run.
        check_claim: function that raises an InputError if another process has taken over.
        on_metrics: function of (step, {name: number}), see `train.run`; or None.

    Attributes:
        workdir: directory of the run.
        history: the metrics of every epoch that has ended, one dict each.
    """

    def __init__(
        self,
        trainer: Trainer,
        workdir: str,
        check_claim: Callable[[], None],
        on_metrics: Callable[[int, dict[str, float]], object] | None = None,
    ):
        self._trainer, self.workdir, self._check_claim = trainer, workdir, check_claim
        self._is_chief = is_chief(trainer.strategy)
        self._board: TensorBoard | None = None
        self._on_metrics = on_metrics
        self._drawn = time.monotonic()
        self.history: list[dict] = []

    def read_history(self) -> None:
        """Reads the rows of metrics.jsonl up to this step; an interrupted epoch leaves none."""
        rows = texts.read_metrics(os.path.join(self.workdir, "metrics.jsonl"))
        end = self._trainer.step
        if self._trainer.is_inside_epoch:
            end -= 1  # its row may be there all the same, if its save was cut short
        self.history = [row for row in rows if row["step"] <= end]

    def open(self) -> None:
        """Opens the record for TensorBoard; a new run begins with a picture of a batch."""
        if self._is_chief:
            self._remove_old_result()
            self._board = TensorBoard(self.workdir, self._trainer.recipe)
            if not self._trainer.position:
                self.show_batch()

    def _remove_old_result(self):
        """An extended run is not complete any more."""
        path = os.path.join(self.workdir, "result.json")
        if not self._trainer.is_done and storage.exists(path):
            with storage.writing(self.workdir):
                tf.io.gfile.remove(path)

    def show_batch(self) -> None:
        """Draws the first images as the network gets them."""
        trainer, recipe = self._trainer, self._trainer.recipe
        count = min(SHOWN, recipe.batch_size)
        stage = trainer.stages[0]
        batch = next(iter(data.training(trainer.source, stage.recipe, stage.image_size, count)))
        names = [trainer.source.label_name(int(label)) for label in batch["labels"]]
        if self._board:
            self._board.batch(batch["images"].numpy(), names)

    def scalars(self, values: dict[str, float]) -> None:
        """Records numbers of this step for TensorBoard, and hands them on."""
        if self._board:
            self._board.scalars(self._trainer.step, values)
        self._hand_on(values)

    def _hand_on(self, values):
        if self._on_metrics and self._is_chief:
            self._on_metrics(self._trainer.step, dict(values))

    def add(self, metrics: dict[str, float]) -> None:
        """Adds the metrics of an epoch that has ended.

        It comes before the epoch's checkpoint: a resumed run drops rows that lie after its
        checkpoint, but could not make up one that is missing.
        """
        self.history.append(metrics)
        if not self._is_chief:
            return
        evaluated = {name: metrics[name] for name in metrics if name.startswith("eval_")}
        if self._board:
            named = {f"eval/{name}": value for name, value in evaluated.items()}
            self._board.scalars(self._trainer.step, named)
        self._check_claim()
        storage.write_rows(os.path.join(self.workdir, "metrics.jsonl"), self.history)
        storage.write_text(os.path.join(self.workdir, "metrics.csv"), texts.csv_of(self.history))
        self._hand_on(metrics)
        if time.monotonic() - self._drawn > REDRAW:
            self._draw()

    def is_out_of_patience(self) -> bool:
        """Whether the run ends before its last epoch, as its recipe says; says so."""
        recipe = self._trainer.recipe
        if not recipe.patience or self._trainer.is_inside_epoch:
            return False
        waited = evaluations.epochs_since_best(self.history, recipe.extended_at)
        if waited >= recipe.patience:
            log.info(
                f"Ends here: no better evaluation for {waited} epochs (patience {recipe.patience})."
            )
        return waited >= recipe.patience

    def finish(self) -> dict[str, float]:
        """Writes the result and the learning curve; returns the metrics of the last epoch."""
        last = self.history[-1]
        if self._is_chief:
            self._draw()
            self._check_claim()
            storage.write_text(
                os.path.join(self.workdir, "result.json"), json.dumps(last, indent=2) + "\n"
            )
        self._tell_of_best()
        return last

    def _tell_of_best(self):
        if self._trainer.recipe.keep == "best":
            best = evaluations.best(self.history)
            log.info(
                f"The best evaluation was {evaluations.told(best)} after epoch {best['epoch']}: "
                f"its checkpoint is in {os.path.join(self.workdir, locate.BEST)}, and is what is "
                "exported and loaded"
            )

    def _draw(self):
        self._drawn = time.monotonic()
        extensions = texts.read_history(os.path.join(self.workdir, "recipe.json"))
        marks = {
            stage.first_step / self._trainer.steps_per_epoch: f"{stage.image_size} pixels"
            for stage in self._trainer.stages[1:]
        }
        marks |= {
            entry["step"] / self._trainer.steps_per_epoch: "\n".join(entry["changed"])
            for entry in extensions
        }
        with storage.writing(self.workdir):
            plots.learning_curve(
                self.history, os.path.join(self.workdir, "learning_curve.png"), marks
            )

    def close(self) -> None:
        """Ends the record for TensorBoard."""
        if self._board:
            self._board.close()
