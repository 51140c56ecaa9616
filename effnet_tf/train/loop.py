"""How does a recipe become a trained checkpoint?

`run` does all of it: strategy, model, a loop of compiled steps, evaluation of every
held-out image, checkpoints, resume. directory.py says what a run directory holds.
"""

import contextlib
import json
import os
import time

import tensorflow as tf

from effnet_tf import data, extras, plots, storage, variants
from effnet_tf.data import bad_images, batches
from effnet_tf.errors import (
    InputError,
    Preempted,
    SaveError,
    TrainingStopped,
    WorkerLost,
    first_line,
)
from effnet_tf.runs import checkpoints, directory, texts
from effnet_tf.train import diagnosis, reporting
from effnet_tf.train.bad_list import BadList
from effnet_tf.train.interruption import Interruption
from effnet_tf.train.step import CORRECT, GOOD, IMAGES, LOSS, NOT_FINITE
from effnet_tf.train.strategy import (
    any_worker,
    choose_strategy,
    has_workers,
    is_chief,
    mean_over_workers,
)
from effnet_tf.train.trainer import Trainer

TOGETHER = 10  # steps after which several workers ask each other whether to go on
SHOWN = 16  # images of the picture of a batch
REDRAW = 60  # seconds between two learning curves
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)  # of a peer that has ended


def run(recipe, workdir, strategy=None):
    """Trains, evaluates and checkpoints a recipe in a run directory; resumes one there.

    What is restored, in this order: the newest unharmed checkpoint in `workdir`; else the
    recipe's `init_weights`; else nothing. Sets Keras' global random seed to the recipe's.

    Args:
        recipe: a `Recipe`.
        workdir: a directory, local or gs://.
        strategy: a tf.distribute strategy; by default `choose_strategy()`.

    Returns:
        A dict with the metrics of the last epoch: step, epoch, train_loss,
        train_accuracy, eval_loss, eval_accuracy (averaged weights), eval_loss_raw, ...

    Raises:
        InputError: a recipe, data set or workdir that cannot be used. Nothing new stays
            in `workdir` then, unless steps had been saved.
        TrainingStopped: loss or gradients were not finite, or the loss too high, even
            after going back to older checkpoints.
        SaveError: the disk does not take a file; older checkpoints remain.
        Preempted: the machine will be taken away; the state is saved.
        WorkerLost: one of several workers ended in the middle.
    """
    storage.check_place(workdir, "--workdir")
    goodput = reporting.Goodput(workdir)
    extras.require_for_training(recipe, directory.is_new(workdir))
    source = data.open_source(recipe)
    bad_images.check(source, recipe.max_bad_fraction)
    strategy = strategy or choose_strategy()
    chief = is_chief(strategy)
    claimed = directory.claimed(workdir, recipe, source) if chief else contextlib.nullcontext()
    with claimed as claim, Interruption(claim.take_back if claim else _nothing) as interruption:
        print("Building the network ...", flush=True)
        trainer = Trainer(recipe, source, strategy)
        _describe(recipe, trainer)
        loop = _Loop(trainer, workdir, goodput, interruption, claim or _nothing, chief)
        with _told_why(source, recipe, strategy), contextlib.closing(loop):
            return loop.run()


def _nothing():
    """What the workers but the first have to check, and to take back."""


@contextlib.contextmanager
def _told_why(source, recipe, strategy):
    """Says of an error inside TensorFlow's steps what it was for, where that can be known."""
    try:
        yield
    except tf.errors.InvalidArgumentError:
        bad_images.check(source, recipe.max_bad_fraction)  # says so if it was for want of images
        raise
    except _GONE as error:
        if has_workers(strategy):
            raise WorkerLost(
                f"Another worker is gone ({first_line(error)}): start all of them "
                "again with the same commands; they go on from the newest "
                "checkpoint."
            ) from error
        raise


def _describe(recipe, trainer):
    variant = recipe.resolved_variant()
    if recipe.phi is not None:
        scaling = variants.CompoundScaling(recipe.alpha, recipe.beta, recipe.gamma)
        print(
            f"Compound scaling: phi {recipe.phi:g}, alpha * beta^2 * gamma^2 = "
            f"{scaling.cost_per_phi:.3f} times the multiply-adds per unit of phi"
        )
    print(
        f"EfficientNet {variant.name}: {trainer.models['raw'].count_params():,} parameters, "
        f"input {trainer.size} x {trainer.size}; {recipe.optimizer}, "
        f"learning rate {recipe.base_learning_rate} x {recipe.batch_size} / 256 = "
        f"{recipe.learning_rate():.4g}; {trainer.total_steps:,} steps of "
        f"{recipe.batch_size} images = {recipe.epochs} epochs"
    )
    held = batches.memory(trainer.source, trainer.size, recipe.batch_size)
    print(f"The input pipeline holds up to about {held / 2**20:,.0f} MiB, with one host")
    if trainer.replicas > 1:
        print(
            f"{trainer.replicas} replicas of {trainer.per_replica} images; batch statistics over "
            f"groups of {trainer.sync_replicas} replica(s) (bn_sync {recipe.bn_sync})"
        )


class _Loop:
    """Runs a `Trainer` to its end, epoch by epoch, and keeps the run directory."""

    def __init__(self, trainer, workdir, goodput, interruption, check, chief):
        self.trainer, self.recipe, self.workdir = trainer, trainer.recipe, workdir
        self.goodput, self.interruption, self.check_claim = goodput, interruption, check
        self.chief = chief
        self.store = checkpoints.Store(
            os.path.join(workdir, "checkpoints"),
            self.recipe.keep_checkpoints,
            self.recipe.background_saves,
        )
        self.board, self.history = None, []
        self.iterator = self.image_size = None
        self.drawn = time.monotonic()
        self.saved_step = None
        self.bad = BadList(trainer, workdir, chief)
        self.strategy, self.several = trainer.strategy, has_workers(trainer.strategy)
        if not self.several:  # several workers must end their loops at the same step
            interruption.on_notice = lambda: trainer.stop.assign(True)
            if interruption.reason:
                interruption.on_notice()

    def close(self):
        """Ends the background work, and writes where the time went."""
        self.interruption.leaving()
        with contextlib.ExitStack() as stack:
            stack.callback(self.store.close)
            if self.board:
                stack.callback(self.board.close)
            if self.chief and self.saved_step is not None:
                stack.callback(self.goodput.write)
                print(self.goodput)

    def run(self):
        """Trains from where the run directory is to the end; returns the last metrics."""
        trainer = self.trainer
        self._resume()
        self.progress = reporting.Progress(trainer, quiet=not self.chief)
        if self.chief:
            self.board = reporting.TensorBoard(self.workdir, self.recipe)
            if not trainer.position:
                self._show_batch()
        while trainer.step < trainer.total_steps or self._is_unfinished():
            self._epoch()
        self._leave_together(None)
        if not self.history:  # complete, but somebody removed metrics.jsonl
            self.history = [dict(step=trainer.step, epoch=self.recipe.epochs, **trainer.evaluate())]
        last = self.history[-1]
        if self.chief:
            self._draw()
        self._write("result.json", json.dumps(last, indent=2) + "\n")
        print(
            f"Done: {last['eval_accuracy']:.2%} of {last['eval_images']:,} held-out images "
            f"right; the run is in {self.workdir}"
        )
        return last

    def _resume(self):
        found = self._newest()
        if found:
            self.trainer.restore(found[1])
            print(f"Resumed from {self.store.folder}, step {found[0]:,}")
        else:
            self.trainer.start()
        if self.chief:
            self.goodput.load()
            self.saved_step = found and (found[0], self._is_unfinished())
            if not found:
                self._save()  # something to go back to; and the disk is tried at once
        self._read_history()
        self.bad.recall()
        self.goodput.switch("other")

    def _newest(self):
        """Returns the newest checkpoint; several workers read the same, or stop."""
        self.store.wait()
        mean_over_workers(self.strategy, 0.0)  # until the first has written all
        found = self.store.newest()
        step = float(found[0] if found else -1)
        if any_worker(self.strategy, step != mean_over_workers(self.strategy, step)):
            raise InputError(
                f"The workers find different checkpoints in '{self.workdir}', this "
                f"one step {step:.0f}: all workers must share the workdir."
            )
        return found

    def _read_history(self):
        """Reads the rows of metrics.jsonl up to this step; an interrupted epoch leaves none."""
        path = os.path.join(self.workdir, "metrics.jsonl")
        rows = texts.read_metrics(path)
        # The row of an epoch that is not finished may be there, if its save was cut short.
        end = self.trainer.step - self._is_unfinished()
        self.history = [row for row in rows if row["step"] <= end]

    def _show_batch(self):
        """Draws the first images as the network gets them."""
        trainer, recipe = self.trainer, self.recipe
        batch = next(
            iter(data.training(trainer.source, recipe, trainer.size, min(SHOWN, recipe.batch_size)))
        )
        names = [trainer.source.class_names[label] for label in batch["labels"]]
        with storage.writing(self.workdir):
            self.board.batch(batch["images"].numpy(), names)

    # --- an epoch -----------------------------------------------------------------------------

    def _is_unfinished(self):
        """Whether steps of the running epoch have been made, but not yet its evaluation."""
        return self.trainer.totals["images"].numpy() > 0

    def _current_epoch(self):
        """Returns (number, its last step) of the epoch that is to be trained or evaluated."""
        trainer = self.trainer
        epoch = max(1, int(trainer.step / trainer.steps_per_epoch) - 1)
        while True:  # ends are rounded, and so found by looking
            end = min(round(epoch * trainer.steps_per_epoch), trainer.total_steps)
            if end > trainer.step or (end == trainer.step and self._is_unfinished()):
                return epoch, end
            epoch += 1

    def _epoch(self):
        """Trains to the next whole epoch, or to where it must go back; evaluates, saves."""
        trainer, every = self.trainer, self.recipe.checkpoint_every
        epoch, end = self._current_epoch()
        size = self.recipe.image_size_at(epoch - 1)
        if self.iterator is None or size != self.image_size:
            self.image_size, self.iterator = size, trainer.train_iterator(trainer.position, size)
        while trainer.step < end:
            if not self._steps(end):
                return
            self._show(epoch)
            self._note_bad()
            self._check_interrupted()
            if every and trainer.step % every == 0 and trainer.step < end:
                self._save()
        self.progress.end_epoch(self._end_epoch(epoch))
        self._save()
        self._note_bad()

    def _steps(self, end):
        """Runs some steps; returns False if the run has gone back to a checkpoint instead."""
        trainer, position = self.trainer, self.trainer.position
        count = min(self.progress.next_steps(), end - trainer.step)
        count = min(count, TOGETHER) if self.several else count
        if self.recipe.checkpoint_every:
            count = min(
                count, self.recipe.checkpoint_every - trainer.step % self.recipe.checkpoint_every
            )
        begun = time.monotonic()
        with self.goodput.timed("steps" if self.progress.compiled else "start_up"):
            waited = float(trainer.train_steps(self.iterator, tf.constant(count)))
            rows = trainer.rows_since(position)
        if self.progress.compiled:
            waited = min(waited, time.monotonic() - begun)
            self.goodput.move(waited, "steps", "data_wait")
        self.interruption.at_stake |= len(rows) > 0
        self.progress.steps_done(len(rows), time.monotonic() - begun, waited)
        return self._count(position, rows)

    def _count(self, position, rows):
        """Adds rows of steps to the epoch's totals, one by one: however they were grouped.

        Returns:
            False if too many in a row were bad, and the run has gone back.
        """
        totals, guard = self.trainer.totals, self.trainer.guard
        sums = {name: float(variable.numpy()) for name, variable in totals.items()}
        bad, forgiven = (int(guard[name].numpy()) for name in ("bad_steps", "forgiven"))
        step = self.trainer.step - int(sum(row[GOOD] for row in rows))
        for number, row in enumerate(rows, position):
            if row[GOOD]:
                bad, step = 0, step + 1
                for name, column in (("loss", LOSS), ("correct", CORRECT), ("images", IMAGES)):
                    sums[name] += float(row[column])
                continue
            bad += number >= forgiven
            self._report_bad(number, step, row)
            if bad >= self.recipe.max_bad_steps:
                self._go_back(number, step)
                return False
        guard["bad_steps"].assign(bad)
        for name, value in sums.items():
            totals[name].assign(value)
        return True

    def _report_bad(self, number, step, row):
        what = (
            "loss or gradients are not finite"
            if row[NOT_FINITE]
            else f"the loss is {row[LOSS] / row[IMAGES]:.3g}, far above what it was"
        )
        print(
            f"\nBatch {number:,} after step {step:,} (learning rate "
            f"{self._learning_rate(step):.3g}): {what}; it changed nothing.",
            flush=True,
        )

    def _go_back(self, number, step):
        """Goes back to the newest checkpoint, and again over the batches since, without bad ones.

        If that has been done from the same checkpoint before, its state is the fault: then
        on with the batch after the last bad one.
        """
        trainer, guard = self.trainer, self.trainer.guard
        rollbacks = int(guard["rollbacks"].numpy()) + 1
        where = (
            f"{self.recipe.max_bad_steps} steps in a row were bad, the last after step "
            f"{step:,}, learning rate {self._learning_rate(step):.3g}"
        )
        if rollbacks > self.recipe.max_rollbacks:
            found = diagnosis.first_not_finite(trainer, number, self.image_size)
            raise TrainingStopped(
                f"Training has diverged: {where}, after going back {rollbacks - 1} times. {found} "
                "Start again with a smaller --base_learning_rate in another --workdir; the "
                "checkpoints here are finite."
            )
        self.goodput.lose()
        saved, values = self._newest()
        skip = int(guard["returned_to"].numpy()) == saved
        trainer.restore(
            {
                **values,
                **({"position": number + 1} if skip else {}),
                "guard/rollbacks": rollbacks,
                "guard/forgiven": number + 1,
                "guard/returned_to": saved,
                "guard/bad_steps": 0,
            }
        )
        self.saved_step, self.iterator = (saved, self._is_unfinished()), None
        self._read_history()
        print(
            f"{where}: back to the checkpoint of step {saved:,}, and on with batch "
            f"{trainer.position:,} (time {rollbacks} of {self.recipe.max_rollbacks}).",
            flush=True,
        )

    def _learning_rate(self, step=None):
        """The rate that a step has; by default the next."""
        rate = self.trainer.optimizer.learning_rate
        return float(rate if step is None else self.trainer.schedule(step))

    def _means(self):
        sums = {name: float(value.numpy()) for name, value in self.trainer.totals.items()}
        images = max(sums["images"], 1.0)
        return sums["loss"] / images, sums["correct"] / images

    def _show(self, epoch):
        loss, accuracy = self._means()
        self.progress.show(epoch, self.trainer.step, loss, accuracy, self._learning_rate())
        if self.chief:
            self.goodput.write_sometimes()
            self.board.scalars(
                self.trainer.step,
                {
                    "train/loss": loss,
                    "train/accuracy": accuracy,
                    "learning_rate": self._learning_rate(),
                    "images_per_second": self.progress.rate,
                    "data_wait": self.progress.wait,
                },
            )

    def _end_epoch(self, epoch):
        """Evaluates; returns the row of metrics, which holds nothing of time or chance."""
        trainer = self.trainer
        with self.goodput.timed("evaluation"):
            evaluated = trainer.evaluate()
        if evaluated is None:
            self._check_interrupted()  # leaves; the next process evaluates this epoch
        loss, accuracy = self._means()
        metrics = dict(
            step=trainer.step,
            epoch=epoch,
            train_loss=loss,
            train_accuracy=accuracy,
            learning_rate=self._learning_rate(),
            **evaluated,
        )
        for variable in trainer.totals.values():
            variable.assign(0.0)
        self.history.append(metrics)
        if self.chief:
            self.board.scalars(
                trainer.step, {f"eval/{name}": value for name, value in evaluated.items()}
            )
            # Before the checkpoint: a resumed run drops rows that lie after its checkpoint.
            self.check_claim()
            storage.write_rows(os.path.join(self.workdir, "metrics.jsonl"), self.history)
            if time.monotonic() - self.drawn > REDRAW:
                self._draw()
        return metrics

    def _draw(self):
        self.drawn = time.monotonic()
        with storage.writing(self.workdir):
            plots.learning_curve(self.history, os.path.join(self.workdir, "learning_curve.png"))

    def _write(self, name, text):
        if self.chief:
            self.check_claim()
            storage.write_text(os.path.join(self.workdir, name), text)

    def _note_bad(self):
        """Lists the images that proved bad; if they are too many, saves, and all workers stop."""
        error = self.bad.note()
        if any_worker(self.strategy, error is not None):
            self._save()
            self._leave_together(None)
            raise error or bad_images.TooManyBad(
                "Too many images cannot be used: see the message of the first worker."
            )

    # --- saving -------------------------------------------------------------------------------

    def _save(self):
        if not self.chief or self.saved_step == (self.trainer.step, self._is_unfinished()):
            return
        with self.goodput.timed("checkpoint"):
            self.check_claim()
            self.store.save(self.trainer.step, self.trainer.snapshot())
        self.saved_step = self.trainer.step, self._is_unfinished()
        self.goodput.checkpointed()
        self.goodput.write()

    def _check_interrupted(self):
        """Reports a failed background save; saves and leaves if the machine goes away."""
        if self.interruption.interrupted:  # its KeyboardInterrupt was lost somewhere
            raise KeyboardInterrupt
        error = None
        try:
            self.store.poll()
        except SaveError as caught:
            error = caught
        leaving = any_worker(self.strategy, bool(self.interruption.reason))
        if leaving and error is None:
            self._save()
        if leaving or any_worker(self.strategy, error is not None):
            self._leave_together(error)
        if leaving:
            reason = self.interruption.reason or "of another worker"
            if not self.trainer.step:
                raise Preempted(self.interruption.nothing_made(reason))
            raise Preempted(
                f"Saved step {self.trainer.step:,} after the notice ({reason}): the "
                "same command goes on from there."
            )

    def _leave_together(self, error):
        """Waits until all is on disk; if that fails on one worker, all of them raise."""
        try:
            self.store.wait()
        except SaveError as caught:
            error = error or caught
        if any_worker(self.strategy, error is not None):
            raise error or SaveError("Another worker could not write a checkpoint.")
