"""How does a recipe become a trained checkpoint?

`run` does all of it: strategy, model, a loop of compiled steps, evaluation of every
held-out image, checkpoints, resume. A run directory holds

    recipe.json      every hyper-parameter, written first
    classes.json     the class names, in the order of the labels
    checkpoints/     the newest checkpoints: weights, averages, optimiser, seeds
    metrics.jsonl    one line per epoch
    learning_curve.png
    result.json      the last line of metrics.jsonl, once training is complete
"""

import contextlib
import json
import os
import sys
import time

import tensorflow as tf

from effnet_tf import data, plots
from effnet_tf.config import CompoundScaling, InputError
from effnet_tf.formats import latest_checkpoint
from effnet_tf.recipe import Recipe, differences
from effnet_tf.trainer import Trainer


# --- where it runs ----------------------------------------------------------------------------

def choose_strategy(tpu=None):
    """Returns the tf.distribute strategy for this machine, and prints which it is.

    Args:
        tpu: name or address of a Cloud TPU, "local" on a TPU VM, or None.

    Returns:
        A TPUStrategy if `tpu` is given, else a MirroredStrategy over all GPUs, else the
        default strategy, on the CPU.

    Raises:
        InputError: the TPU cannot be reached.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if tpu:
        strategy, what = _tpu_strategy(tpu), f"TPU '{tpu}'"
    elif gpus:
        strategy, what = tf.distribute.MirroredStrategy(), f"{len(gpus)} GPU(s)"
    else:
        strategy, what = tf.distribute.get_strategy(), "CPU (no GPU found; --tpu for a TPU)"
    print(f"Training on {what}: {type(strategy).__name__}, "
          f"{strategy.num_replicas_in_sync} replica(s)")
    return strategy


def _tpu_strategy(tpu):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(f"The TPU '{tpu}' cannot be used: {str(error).splitlines()[0]} "
                         "(On a TPU VM say --tpu local, and install tensorflow-tpu.)") from error
    return tf.distribute.TPUStrategy(resolver)


# --- the run directory ------------------------------------------------------------------------

RUN_FILES = ("recipe.json", "classes.json", "metrics.jsonl", "checkpoints",
             "learning_curve.png", "result.json")


def write_text(path, text):
    """Writes a text file (local or gs://) whole or not at all."""
    temporary = f"{path}.tmp"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(text)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def read_text(path):
    """Returns the text of a file, local or gs://."""
    with tf.io.gfile.GFile(path, "r") as file:
        return file.read()


def read_run(workdir):
    """Returns the (`Recipe`, class names) of a run directory.

    Raises:
        InputError: `workdir` is no run directory.
    """
    paths = [os.path.join(workdir, name) for name in ("recipe.json", "classes.json")]
    for path in paths:
        if not tf.io.gfile.exists(path):
            raise InputError(f"'{workdir}' is no run directory: it has no "
                             f"{os.path.basename(path)}. Train one: python train_tpu.py "
                             "--workdir ...")
    recipe, classes = map(read_text, paths)
    return Recipe.from_json(recipe), tuple(json.loads(classes))


@contextlib.contextmanager
def _claimed(workdir, recipe, class_names):
    """Writes the recipe into `workdir`; takes it back if a new run fails with nothing saved."""
    is_new_directory = not tf.io.gfile.exists(workdir)
    is_new_run = not tf.io.gfile.exists(os.path.join(workdir, "recipe.json"))
    if is_new_run:
        _check_no_foreign_files(workdir)
    else:
        _check_same_run(workdir, recipe, class_names)
    try:
        tf.io.gfile.makedirs(workdir)
        write_text(os.path.join(workdir, "recipe.json"), recipe.to_json())
        write_text(os.path.join(workdir, "classes.json"), json.dumps(class_names) + "\n")
    except tf.errors.OpError as error:
        raise InputError(f"The workdir '{workdir}' cannot be written: {error.message}.") from error
    try:
        yield
    except BaseException:
        if is_new_run and not tf.train.latest_checkpoint(os.path.join(workdir, "checkpoints")):
            _remove_run(workdir, is_new_directory)
        raise


def _check_no_foreign_files(workdir):
    """Refuses a directory that holds files by our names, which a run would overwrite."""
    for name in RUN_FILES:
        if tf.io.gfile.exists(os.path.join(workdir, name)):
            raise InputError(f"The workdir '{workdir}' has '{name}' but no recipe.json: it is no "
                             "run directory of this program. Choose another --workdir.")


def _check_same_run(workdir, recipe, class_names):
    """Refuses to resume a run of another recipe or of other classes."""
    old_recipe, old_classes = read_run(workdir)
    changed = differences(old_recipe, recipe)
    if old_classes != tuple(class_names):
        changed.append(f"classes: {', '.join(old_classes)} -> {', '.join(class_names)}")
    if changed:
        raise InputError(f"The workdir '{workdir}' holds a run of another recipe "
                         f"({'; '.join(changed)}). Give the same options to resume it, or "
                         "another --workdir.")


def _remove_run(workdir, whole):
    """Removes what a new run wrote: `_check_no_foreign_files` says that all of it is ours."""
    for name in RUN_FILES if not whole else ("",):
        path = os.path.join(workdir, name)
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        elif tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)


# --- the loop ------------------------------------------------------------------------------------

def run(recipe, workdir, strategy=None):
    """Trains, evaluates and checkpoints a recipe in a run directory; resumes one there.

    What is restored, in this order: the newest checkpoint in `workdir`; else the recipe's
    `init_weights`; else nothing.
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
            in `workdir` then, unless a checkpoint had been written.
    """
    source = data.open_source(recipe)
    strategy = strategy or choose_strategy()
    with _claimed(workdir, recipe, source.class_names):
        print("Building the network ...", flush=True)
        trainer = Trainer(recipe, source, strategy)
        _describe(recipe, trainer)
        try:
            return _train(trainer, workdir)
        except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError):
            data.refuse_unreadable(source)  # names the image, if it was an image
            raise


def _describe(recipe, trainer):
    variant = recipe.resolved_variant()
    if recipe.phi is not None:
        scaling = CompoundScaling(recipe.alpha, recipe.beta, recipe.gamma)
        print(f"Compound scaling: phi {recipe.phi:g}, alpha * beta^2 * gamma^2 = "
              f"{scaling.cost_per_phi:.3f} times the multiply-adds per unit of phi")
    print(f"EfficientNet {variant.name}: {trainer.models['raw'].count_params():,} parameters, "
          f"input {trainer.size} x {trainer.size}; "
          f"learning rate {recipe.base_learning_rate} x {recipe.batch_size} / 256 = "
          f"{recipe.learning_rate():.4g}; {trainer.total_steps:,} steps of "
          f"{recipe.batch_size} images = {recipe.epochs} epochs")


def _train(trainer, workdir):
    checkpoint, folder = trainer.checkpoint(), os.path.join(workdir, "checkpoints")
    newest = latest_checkpoint(folder)
    if newest:
        try:
            checkpoint.restore(newest).assert_consumed()
        except AssertionError as error:
            raise InputError(f"The checkpoint '{newest}' was written by another version of "
                             "effnet_tf, or another program: use another --workdir, and "
                             "--init_weights to start from it.") from error
        trainer.restore_constants()
        print(f"Resumed from {newest}, step {trainer.step:,}")
    elif trainer.recipe.init_weights:
        trainer.load_initial_weights()
    manager = tf.train.CheckpointManager(checkpoint, folder, trainer.recipe.keep_checkpoints)
    history = _history(workdir, trainer.step)
    iterator = trainer.train_iterator(trainer.step)
    progress = Progress(trainer)
    while trainer.step < trainer.total_steps:
        metrics = _epoch(trainer, iterator, progress)
        history.append(metrics)
        # Before the checkpoint: a resumed run drops rows that lie after its checkpoint.
        write_text(os.path.join(workdir, "metrics.jsonl"),
                   "".join(json.dumps(row) + "\n" for row in history))
        manager.save(checkpoint_number=trainer.step)
        plots.learning_curve(history, os.path.join(workdir, "learning_curve.png"))
    if not history:  # complete, but somebody removed metrics.jsonl
        history = [dict(step=trainer.step, epoch=trainer.recipe.epochs, **trainer.evaluate())]
    write_text(os.path.join(workdir, "result.json"), json.dumps(history[-1], indent=2) + "\n")
    print(f"Done: {history[-1]['eval_accuracy']:.2%} of {history[-1]['eval_images']:,} held-out "
          f"images right; the run is in {workdir}")
    return history[-1]


def _history(workdir, step):
    """Returns the rows of metrics.jsonl up to a step; an interrupted epoch leaves none."""
    path = os.path.join(workdir, "metrics.jsonl")
    if not tf.io.gfile.exists(path):
        return []
    rows = [json.loads(line) for line in read_text(path).splitlines()]
    return [row for row in rows if row["step"] <= step]


def _epoch(trainer, iterator, progress):
    """Trains to the next whole epoch, evaluates; returns the row of metrics."""
    epoch = int(trainer.step / trainer.steps_per_epoch) + 1
    if round(epoch * trainer.steps_per_epoch) <= trainer.step:
        epoch += 1  # the step before was the rounded end of the epoch
    end = min(round(epoch * trainer.steps_per_epoch), trainer.total_steps)
    loss = correct = images = 0.0
    while trainer.step < end:
        count = min(progress.next_steps(), end - trainer.step)
        trainer.train_steps(iterator, tf.constant(count))
        sums = trainer.read_sums("")
        loss, correct, images = (total + sums[name] for total, name in (
            (loss, "loss"), (correct, "correct"), (images, "images")))
        if not loss < float("inf"):
            raise InputError(f"The loss is {loss} at step {trainer.step}: training has diverged. "
                             "Start again with a smaller --base_learning_rate, in another "
                             "--workdir if this one holds checkpoints.")
        progress.show(epoch, trainer.step, loss / images, correct / images)
    metrics = dict(step=trainer.step, epoch=epoch, train_loss=loss / images,
                   train_accuracy=correct / images, images_per_second=progress.rate,
                   learning_rate=float(trainer.optimizer.learning_rate), **trainer.evaluate())
    progress.end_epoch(metrics)
    return metrics


class Progress:
    """The line a person watches: epoch, step, loss, accuracy, images/s, time left."""

    def __init__(self, trainer):
        self.recipe, self.total = trainer.recipe, trainer.total_steps
        self.last_step, self.last = trainer.step, None  # the clock starts once compiled
        self.rate = 0.0
        self.live, self.printed = sys.stdout.isatty(), time.monotonic()
        if trainer.step < self.total:
            print("Compiling the first step; this takes a while ...", flush=True)

    def next_steps(self):
        """How many steps to run at once: a single one first, which compiles."""
        return 1 if self.last is None else self.recipe.steps_per_loop

    def show(self, epoch, step, loss, accuracy):
        """Prints the state after some steps; on a terminal it overwrites its line."""
        now = time.monotonic()
        if self.last is not None:
            self.rate = (step - self.last_step) * self.recipe.batch_size / (now - self.last)
        left = (self.total - step) * self.recipe.batch_size / self.rate if self.rate else 0
        self.last, self.last_step = now, step
        self.line = (f"epoch {epoch}/{self.recipe.epochs}  step {step:,}/{self.total:,}  "
                     f"loss {loss:.3f}  accuracy {accuracy:.1%}  {self.rate:,.0f} images/s  "
                     f"{_clock(left) if self.rate else '?'} left")
        if self.live:
            print(f"\r{self.line}\033[K", end="", flush=True)
        elif now - self.printed > 60:  # a log file gets a line per minute and per epoch
            print(self.line, flush=True)
            self.printed = now

    def end_epoch(self, metrics):
        """Ends the epoch's line with the evaluation."""
        self.last = self.printed = time.monotonic()  # evaluation is no training time
        start = "\r" if self.live else ""
        print(f"{start}{self.line}  held-out {metrics['eval_accuracy']:.2%}", flush=True)


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
