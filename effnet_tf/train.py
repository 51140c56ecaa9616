"""How does a recipe become a trained checkpoint?

`run` does all of it: strategy, model, a loop of compiled steps, evaluation of every
held-out image, checkpoints, resume. rundir.py says what a run directory holds.
"""

import contextlib
import json
import os
import time

import tensorflow as tf

from effnet_tf import checkpoints, data, diagnosis, plots, rundir, watch
from effnet_tf.config import CompoundScaling, InputError
from effnet_tf.interruption import Interruption, Preempted
from effnet_tf.step import CORRECT, GOOD, IMAGES, LOSS, NOT_FINITE
from effnet_tf.strategy import any_worker, choose_strategy, is_chief
from effnet_tf.trainer import Trainer

SHOWN = 16  # images of the picture of a batch


class TrainingStopped(RuntimeError):
    """Training cannot go on: it has diverged, again and again."""


def run(recipe, workdir, strategy=None):
    """Trains, evaluates and checkpoints a recipe in a run directory; resumes one there.

    What is restored, in this order: the newest unharmed checkpoint in `workdir`; else the
    recipe's `init_weights`; else nothing.
    Sets Keras' global random seed to the recipe's.

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
        checkpoints.SaveError: the disk does not take a file; older checkpoints remain.
        Preempted: the machine will be taken away; the state is saved.
    """
    goodput = watch.Goodput(workdir)
    source = data.open_source(recipe)
    strategy = strategy or choose_strategy()
    chief = is_chief(strategy)
    claim = (rundir.claimed(workdir, recipe, source.class_names) if chief
             else contextlib.nullcontext(lambda: None))
    with claim as check, Interruption() as interruption:
        print("Building the network ...", flush=True)
        trainer = Trainer(recipe, source, strategy)
        _describe(recipe, trainer)
        loop = _Loop(trainer, workdir, goodput, interruption, check, chief)
        try:
            return loop.run()
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError) as error:
            data.refuse_bad_label(error)
            data.refuse_unreadable(source)  # names the image, if it was an image
            raise
        finally:
            loop.close()


def _describe(recipe, trainer):
    variant = recipe.resolved_variant()
    if recipe.phi is not None:
        scaling = CompoundScaling(recipe.alpha, recipe.beta, recipe.gamma)
        print(f"Compound scaling: phi {recipe.phi:g}, alpha * beta^2 * gamma^2 = "
              f"{scaling.cost_per_phi:.3f} times the multiply-adds per unit of phi")
    print(f"EfficientNet {variant.name}: {trainer.models['raw'].count_params():,} parameters, "
          f"input {trainer.size} x {trainer.size}; {recipe.optimizer}, "
          f"learning rate {recipe.base_learning_rate} x {recipe.batch_size} / 256 = "
          f"{recipe.learning_rate():.4g}; {trainer.total_steps:,} steps of "
          f"{recipe.batch_size} images = {recipe.epochs} epochs")
    if trainer.replicas > 1:
        print(f"{trainer.replicas} replicas of {trainer.per_replica} images; batch statistics over "
              f"groups of {trainer.sync_replicas} replica(s) (bn_sync {recipe.bn_sync})")


class _Loop:
    """Runs a `Trainer` to its end, epoch by epoch, and keeps the run directory."""

    def __init__(self, trainer, workdir, goodput, interruption, check, chief):
        self.trainer, self.recipe, self.workdir = trainer, trainer.recipe, workdir
        self.goodput, self.interruption, self.check_claim = goodput, interruption, check
        self.chief = chief
        self.store = checkpoints.Store(os.path.join(workdir, "checkpoints"),
                                       self.recipe.keep_checkpoints, self.recipe.background_saves)
        self.board, self.iterator, self.history = None, None, []
        self.saved_step = None
        if not isinstance(trainer.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            # Several workers must end their loops at the same step.
            interruption.on_notice = lambda: trainer.stop.assign(True)

    def close(self):
        """Ends the background work, and writes where the time went."""
        with contextlib.ExitStack() as stack:
            if self.board:
                stack.callback(self.board.close)
            if self.chief and self.saved_step is not None:
                stack.callback(lambda: print(self.goodput))
                stack.callback(self.goodput.write)
            stack.callback(self.store.close)

    def run(self):
        """Trains from where the run directory is to the end; returns the last metrics."""
        trainer = self.trainer
        self._resume()
        self.progress = watch.Progress(trainer, quiet=not self.chief)
        if self.chief:
            self.board = watch.TensorBoard(self.workdir, self.recipe)
            self._show_batch()
        while trainer.step < trainer.total_steps:
            self._epoch()
        self.store.wait()
        if not self.history:  # complete, but somebody removed metrics.jsonl
            self.history = [dict(step=trainer.step, epoch=self.recipe.epochs,
                                 **trainer.evaluate())]
        last = self.history[-1]
        self._write("result.json", json.dumps(last, indent=2) + "\n")
        print(f"Done: {last['eval_accuracy']:.2%} of {last['eval_images']:,} held-out images "
              f"right; the run is in {self.workdir}")
        return last

    def _resume(self):
        found = self.store.newest()
        if found:
            self.trainer.restore(found[1])
            print(f"Resumed from {self.store.folder}, step {found[0]:,}")
        else:
            self.trainer.start()
        self._check_workers_agree()
        if self.chief:
            self.goodput.load()
            self.saved_step = found and found[0]
            if not found:
                self._save()  # something to go back to; and the disk is tried at once
        self._read_history()

    def _check_workers_agree(self):
        strategy, step = self.trainer.strategy, self.trainer.step
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return
        if any_worker(strategy, step > 0) and step == 0:
            raise InputError(f"Another worker resumes a run, and this one finds no checkpoint in "
                             f"'{self.workdir}': the workdir must be one that all workers share.")

    def _read_history(self):
        """Reads the rows of metrics.jsonl up to this step; an interrupted epoch leaves none."""
        path = os.path.join(self.workdir, "metrics.jsonl")
        rows = rundir.read_text(path).splitlines() if tf.io.gfile.exists(path) else []
        self.history = [row for row in map(json.loads, rows) if row["step"] <= self.trainer.step]

    def _show_batch(self):
        """Draws the images that come next, as the network gets them."""
        trainer, recipe = self.trainer, self.recipe
        if trainer.step < trainer.total_steps:
            batch = next(iter(data.training(
                trainer.source, recipe, trainer.size, min(SHOWN, recipe.batch_size),
                start=trainer.position * recipe.batch_size)))
            names = [trainer.source.class_names[label] for label in batch["labels"]]
            with rundir.writing(self.workdir):
                self.board.batch(batch["images"].numpy(), names)

    # --- an epoch -----------------------------------------------------------------------------

    def _epoch(self):
        """Trains to the next whole epoch, or to where it must go back; evaluates, saves."""
        trainer, start = self.trainer, self.trainer.step
        epoch = int(start / trainer.steps_per_epoch) + 1
        if round(epoch * trainer.steps_per_epoch) <= start:
            epoch += 1  # the step before was the rounded end of the epoch
        end = min(round(epoch * trainer.steps_per_epoch), trainer.total_steps)
        self.image_size = self.recipe.image_size_at(epoch - 1)
        self.iterator = trainer.train_iterator(trainer.position, self.image_size)
        while trainer.step < end:
            if not self._steps(end):
                return
            self._show(epoch)
            self._check_interrupted()
            if self.recipe.checkpoint_every and trainer.step % self.recipe.checkpoint_every == 0:
                self._save()
        metrics = self._end_epoch(epoch)
        self.progress.end_epoch(metrics)
        self._save()

    def _steps(self, end):
        """Runs some steps; returns False if the run has gone back to a checkpoint instead."""
        trainer, position = self.trainer, self.trainer.position
        count = min(self.progress.next_steps(), end - trainer.step)
        if self.recipe.checkpoint_every:
            count = min(count, self.recipe.checkpoint_every
                        - trainer.step % self.recipe.checkpoint_every)
        begun = time.monotonic()
        with self.goodput.timed("steps" if self.progress.compiled else "start_up"):
            waited = float(trainer.train_steps(self.iterator, tf.constant(count)))
            rows = trainer.rows_since(position)
        if self.progress.compiled:
            waited = min(waited, time.monotonic() - begun)
            self.goodput.move(waited, "steps", "data_wait")
        self.progress.steps_done(len(rows), time.monotonic() - begun, waited)
        return self._count(position, rows)

    def _count(self, position, rows):
        """Adds rows of steps to the epoch's totals, one by one: however they were grouped.

        Returns:
            False if too many in a row were bad, and the run has gone back.
        """
        totals, guard = self.trainer.totals, self.trainer.guard
        sums = {name: float(variable.numpy()) for name, variable in totals.items()}
        bad = int(guard["bad_steps"].numpy())
        for number, row in enumerate(rows, position):
            if row[GOOD]:
                bad = 0
                for name, column in (("loss", LOSS), ("correct", CORRECT), ("images", IMAGES)):
                    sums[name] += float(row[column])
                continue
            bad += 1
            self._report_bad(number, row)
            if bad >= self.recipe.max_bad_steps:
                self._go_back(number)
                return False
        guard["bad_steps"].assign(bad)
        for name, value in sums.items():
            totals[name].assign(value)
        return True

    def _report_bad(self, number, row):
        what = ("loss or gradients are not finite" if row[NOT_FINITE] else
                f"the loss is {row[LOSS] / row[IMAGES]:.3g}, usually "
                f"{float(self.trainer.train_step.smoothed_loss.numpy()):.3g}")
        print(f"\nBatch {number:,} after step {self.trainer.step:,} (learning rate "
              f"{self._learning_rate():.3g}): {what}; it changed nothing.", flush=True)

    def _go_back(self, number):
        """Takes the newest checkpoint, and goes on after the batches that were tried since."""
        trainer = self.trainer
        rollbacks = int(trainer.guard["rollbacks"].numpy()) + 1
        where = (f"{self.recipe.max_bad_steps} steps in a row were bad, the last at step "
                 f"{trainer.step:,}, learning rate {self._learning_rate():.3g}")
        if rollbacks > self.recipe.max_rollbacks:
            found = diagnosis.first_not_finite(trainer, number, self.image_size)
            raise TrainingStopped(
                f"Training has diverged: {where}, after going back {rollbacks - 1} times. {found} "
                "Start again with a smaller --base_learning_rate in another --workdir; the "
                "checkpoints here are finite.")
        self.goodput.lose()
        step, values = self.store.newest()
        trainer.restore({**values, "position": number + 1, "guard/rollbacks": rollbacks,
                         "guard/bad_steps": 0})
        self._read_history()
        print(f"{where}: back to the checkpoint of step {step:,}, and on with batch "
              f"{number + 1:,} (time {rollbacks} of {self.recipe.max_rollbacks}).", flush=True)

    def _learning_rate(self):
        return float(self.trainer.optimizer.learning_rate)

    def _means(self):
        sums = {name: float(value.numpy()) for name, value in self.trainer.totals.items()}
        images = max(sums["images"], 1.0)
        return sums["loss"] / images, sums["correct"] / images

    def _show(self, epoch):
        loss, accuracy = self._means()
        self.progress.show(epoch, self.trainer.step, loss, accuracy, self._learning_rate())
        if self.chief:
            self.board.scalars(self.trainer.step, {
                "train/loss": loss, "train/accuracy": accuracy,
                "learning_rate": self._learning_rate(), "images_per_second": self.progress.rate,
                "data_wait": self.progress.wait})

    def _end_epoch(self, epoch):
        """Evaluates; returns the row of metrics, which holds nothing of time or chance."""
        trainer = self.trainer
        with self.goodput.timed("evaluation"):
            evaluated = trainer.evaluate()
        loss, accuracy = self._means()
        metrics = dict(step=trainer.step, epoch=epoch, train_loss=loss, train_accuracy=accuracy,
                       learning_rate=self._learning_rate(), **evaluated)
        for variable in trainer.totals.values():
            variable.assign(0.0)
        self.history.append(metrics)
        if self.chief:
            self.board.scalars(trainer.step, {
                f"eval/{name}": value for name, value in evaluated.items()})
            # Before the checkpoint: a resumed run drops rows that lie after its checkpoint.
            self._write("metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.history))
            with rundir.writing(self.workdir):
                plots.learning_curve(self.history,
                                     os.path.join(self.workdir, "learning_curve.png"))
        return metrics

    def _write(self, name, text):
        if self.chief:
            rundir.write_text(os.path.join(self.workdir, name), text)

    # --- saving -------------------------------------------------------------------------------

    def _save(self):
        if not self.chief:
            return
        with self.goodput.timed("checkpoint"):
            self.check_claim()
            self.store.save(self.trainer.step, self.trainer.snapshot())
        self.saved_step = self.trainer.step
        self.goodput.checkpointed()
        self.goodput.write()

    def _check_interrupted(self):
        """Reports a failed background save; saves and leaves if the machine goes away."""
        self.store.poll()
        if any_worker(self.trainer.strategy, bool(self.interruption.reason)):
            if self.saved_step != self.trainer.step:
                self._save()
            self.store.wait()
            raise Preempted(f"Saved step {self.trainer.step:,} after the notice "
                            f"({self.interruption.reason or 'of another worker'}): the same "
                            "command goes on from there.")
