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

import keras
import tensorflow as tf

from effnet_tf import data, model as model_lib, optim, plots
from effnet_tf.config import InputError
from effnet_tf.recipe import Recipe, differences


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


def _policy(recipe, strategy):
    """The dtype policy of a recipe on a strategy (auto: bfloat16 on TPU only)."""
    if recipe.precision != "auto":
        return recipe.precision
    return "mixed_bfloat16" if isinstance(strategy, tf.distribute.TPUStrategy) else "float32"


@contextlib.contextmanager
def _dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


# --- the run directory ------------------------------------------------------------------------

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
    path = os.path.join(workdir, "recipe.json")
    if not tf.io.gfile.exists(path):
        raise InputError(f"'{workdir}' is no run directory: it has no recipe.json. "
                         "Train one: python train_tpu.py --workdir ...")
    classes = json.loads(read_text(os.path.join(workdir, "classes.json")))
    return Recipe.from_json(read_text(path)), tuple(classes)


@contextlib.contextmanager
def _claimed(workdir, recipe, class_names):
    """Writes the recipe into `workdir`; takes it back if the run fails with nothing saved."""
    path = os.path.join(workdir, "recipe.json")
    is_new = not tf.io.gfile.exists(workdir)
    if tf.io.gfile.exists(path):
        changed = differences(read_run(workdir)[0], recipe)
        if changed:
            raise InputError(f"The workdir '{workdir}' holds a run of another recipe "
                             f"({'; '.join(changed)}). Give the same options to resume it, or "
                             "another --workdir.")
    else:
        tf.io.gfile.makedirs(workdir)
        write_text(os.path.join(workdir, "classes.json"), json.dumps(class_names) + "\n")
        write_text(path, recipe.to_json())
    try:
        yield
    except BaseException:
        if not tf.train.latest_checkpoint(os.path.join(workdir, "checkpoints")):
            _remove_run(workdir, is_new)
        raise


def _remove_run(workdir, whole):
    if whole:
        tf.io.gfile.rmtree(workdir)
        return
    for name in ("recipe.json", "classes.json", "metrics.jsonl"):
        if tf.io.gfile.exists(os.path.join(workdir, name)):
            tf.io.gfile.remove(os.path.join(workdir, name))
    if tf.io.gfile.exists(os.path.join(workdir, "checkpoints")):
        tf.io.gfile.rmtree(os.path.join(workdir, "checkpoints"))


# --- the state and its steps ----------------------------------------------------------------

class Trainer:
    """A model in training: its variables, and the compiled steps over them.

    Args:
        recipe: a `Recipe`.
        source: a `data.Source`.
        strategy: a tf.distribute strategy.

    Attributes:
        models: {"raw": model} and, with averaging, {"ema": model of the averages}; they
            give logits.
        optimizer: its `iterations` count the steps.
        steps_per_epoch: a float.
        total_steps: of the whole run.
    """

    def __init__(self, recipe, source, strategy):
        self.recipe, self.source, self.strategy = recipe, source, strategy
        self.replicas = strategy.num_replicas_in_sync
        self.size = recipe.resolved_variant().resolution
        self.per_replica = self._share(recipe.batch_size, "batch_size")
        self.eval_per_replica = self._share(recipe.eval_batch_size or recipe.batch_size,
                                            "eval_batch_size")
        self.steps_per_epoch = source.num_train / recipe.batch_size
        self.total_steps = round(recipe.epochs * self.steps_per_epoch)
        keras.utils.set_random_seed(recipe.seed)  # the initial weights and every mask
        with strategy.scope(), _dtype_policy(_policy(recipe, strategy)):
            self.models = {"raw": self._build()}
            self.optimizer = optim.optimizer(recipe, self.steps_per_epoch)
            self.optimizer.build(self.models["raw"].trainable_variables)
            if recipe.ema_decay:
                self.models["ema"] = self._build()
                self._copy_weights()
            self.sums = {name: self._sum_variable() for name in self._sum_names()}
        # Compiled once each, whatever the number of steps.
        self.train_steps = tf.function(self._train_steps)
        self.eval_steps = tf.function(self._eval_steps)

    def _share(self, batch_size, name):
        if batch_size % self.replicas:
            raise InputError(f"{name} is {batch_size}, which {self.replicas} replicas cannot "
                             f"share: use a multiple of {self.replicas}.")
        return batch_size // self.replicas

    def _build(self):
        recipe = self.recipe
        return model_lib.model_fn(
            recipe.resolved_variant(), len(self.source.class_names),
            classifier_activation=None, dropout_rate=recipe.dropout_rate,
            drop_connect_rate=recipe.drop_connect_rate)

    def _copy_weights(self):
        for average, variable in zip(self.models["ema"].weights, self.models["raw"].weights):
            average.assign(variable.value)

    def _sum_names(self):
        return ["loss", "correct", "images"] + [
            f"eval_{what}_{name}" for name in self.models for what in ("loss", "correct")] + [
            "eval_images"]

    @staticmethod
    def _sum_variable():
        # One per replica, added up when read: exact, and no traffic inside the loop.
        return tf.Variable(0.0, trainable=False, aggregation=tf.VariableAggregation.SUM,
                           synchronization=tf.VariableSynchronization.ON_READ)

    def read_sums(self, prefix):
        """Returns {name: float} of the sums that start with `prefix`, and resets all."""
        values = {name: float(variable.read_value()) for name, variable in self.sums.items()
                  if name.startswith(prefix)}
        for variable in self.sums.values():
            variable.assign(0.0)
        return values

    def _train_steps(self, iterator, count):
        for _ in tf.range(count):
            self.strategy.run(self._train_step, args=(next(iterator),))

    def _train_step(self, batch):
        """One step of one replica on (images, labels)."""
        images, labels = batch
        recipe, model = self.recipe, self.models["raw"]
        classes = len(self.source.class_names)
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            target = tf.one_hot(labels, classes) * (1 - recipe.label_smoothing)
            target += recipe.label_smoothing / classes
            losses = tf.nn.softmax_cross_entropy_with_logits(target, logits)
            # Replicas' gradients are added up: each contributes its share of the mean.
            objective = (tf.reduce_sum(losses) / recipe.batch_size
                         + optim.l2_penalty(model.trainable_variables, recipe.weight_decay)
                         / self.replicas)
        variables = model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(objective, variables), variables))
        self._average_statistics()
        if recipe.ema_decay:
            optim.update_ema([v.value for v in self.models["ema"].weights],
                             [v.value for v in model.weights],
                             optim.ema_decay(recipe.ema_decay, self.optimizer.iterations.value))
        self._add(tf.ones_like(losses), labels, logits, losses, "loss", "correct", "images")

    def _average_statistics(self):
        """Gives all replicas the mean of their batch-norm statistics.

        Keras 3 lets each replica keep its own; they would evaluate differently, and a
        checkpoint would hold the first one's.
        """
        if self.replicas > 1:
            statistics = [v.value for v in self.models["raw"].non_trainable_weights]
            means = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.MEAN, [tf.identity(value) for value in statistics])
            for statistic, mean in zip(statistics, means):
                statistic.assign(mean)

    def _eval_steps(self, iterator, count):
        for _ in tf.range(count):
            self.strategy.run(self._eval_step, args=(next(iterator),))

    def _eval_step(self, batch):
        """Adds up loss and hits of every model on (images, labels, weights)."""
        images, labels, weights = batch
        for name, model in self.models.items():
            logits = model(images, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            self._add(weights, labels, logits, losses,
                      f"eval_loss_{name}", f"eval_correct_{name}")
        self.sums["eval_images"].assign_add(tf.reduce_sum(weights))

    def _add(self, weights, labels, logits, losses, loss, correct, images=None):
        hits = tf.cast(tf.argmax(logits, -1) == labels, tf.float32)
        self.sums[loss].assign_add(tf.reduce_sum(losses * weights))
        self.sums[correct].assign_add(tf.reduce_sum(hits * weights))
        if images:
            self.sums[images].assign_add(tf.reduce_sum(weights))

    def train_iterator(self, step):
        """Returns the iterator over training batches that follow `step`."""
        def dataset(context):
            hosts = context.num_input_pipelines
            start = step * self.recipe.batch_size // hosts
            return data.training(
                self.source, self.recipe, self.size, self.per_replica, start=start,
                shard=context.input_pipeline_id, num_shards=hosts)

        return iter(self.strategy.distribute_datasets_from_function(dataset))

    def evaluate(self):
        """Evaluates every held-out image once.

        Returns:
            {"eval_loss", "eval_accuracy"} of the averaged weights (of the raw ones without
            averaging), {"eval_loss_raw", ...} of each model, and "eval_images".
        """
        batches = {}

        def dataset(context):
            hosts = context.num_input_pipelines
            local_replicas = self.replicas // hosts
            images = -(-self.source.num_eval // hosts)  # every host takes as many steps
            batches["steps"] = -(-images // (self.eval_per_replica * local_replicas))
            return data.evaluation(
                self.source, self.recipe, self.size, self.eval_per_replica,
                batches["steps"] * local_replicas, shard=context.input_pipeline_id,
                num_shards=hosts)

        iterator = iter(self.strategy.distribute_datasets_from_function(dataset))
        self.eval_steps(iterator, tf.constant(batches["steps"]))
        sums = self.read_sums("eval_")
        return self._eval_metrics(sums)

    def _eval_metrics(self, sums):
        count = sums["eval_images"]
        if count != self.source.num_eval:
            raise RuntimeError(f"Evaluated {count:.0f} images instead of {self.source.num_eval}.")
        metrics = {"eval_images": int(count)}
        for name in self.models:  # "ema" comes last, and so is the plain name's meaning
            for what, key in (("loss", "loss"), ("accuracy", "correct")):
                value = sums[f"eval_{key}_{name}"] / count
                metrics[f"eval_{what}_{name}"] = metrics[f"eval_{what}"] = value
        return metrics

    def checkpoint(self):
        """Returns the tf.train.Checkpoint of everything that a resumed run needs."""
        raw = self.models["raw"]
        weights = {id(variable) for variable in raw.weights}
        # Keras' seed generators are no part of any Keras or TensorFlow checkpoint.
        seeds = [variable for variable in raw.variables if id(variable) not in weights]
        groups = {
            "weights": {variable.path: variable.value for variable in raw.weights},
            "optimizer": {str(number): variable.value
                          for number, variable in enumerate(self.optimizer.variables)},
            "seeds": {str(number): variable.value for number, variable in enumerate(seeds)}}
        if "ema" in self.models:
            groups["ema"] = {variable.path: variable.value
                             for variable in self.models["ema"].weights}
        return tf.train.Checkpoint(**groups)

    @property
    def step(self):
        return int(self.optimizer.iterations.numpy())


# --- the loop ------------------------------------------------------------------------------------

def run(recipe, workdir, strategy=None):
    """Trains, evaluates and checkpoints a recipe in a run directory; resumes one there.

    What is restored, in this order: the newest checkpoint in `workdir`; else nothing.
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
        except tf.errors.InvalidArgumentError:
            data.refuse_unreadable(source)  # names the image, if it was an image
            raise


def _describe(recipe, trainer):
    variant = recipe.resolved_variant()
    print(f"EfficientNet {variant.name}: {trainer.models['raw'].count_params():,} parameters, "
          f"input {trainer.size} x {trainer.size}; "
          f"learning rate {recipe.base_learning_rate} x {recipe.batch_size} / 256 = "
          f"{recipe.learning_rate():.4g}; {trainer.total_steps:,} steps of "
          f"{recipe.batch_size} images = {recipe.epochs} epochs")


def _train(trainer, workdir):
    checkpoint = trainer.checkpoint()
    manager = tf.train.CheckpointManager(
        checkpoint, os.path.join(workdir, "checkpoints"), trainer.recipe.keep_checkpoints)
    if manager.latest_checkpoint:
        checkpoint.restore(manager.latest_checkpoint).assert_consumed()
        print(f"Resumed from {manager.latest_checkpoint}, step {trainer.step:,}")
    history = _history(workdir, trainer.step)
    iterator = trainer.train_iterator(trainer.step)
    progress = Progress(trainer)
    while trainer.step < trainer.total_steps:
        metrics = _epoch(trainer, iterator, progress)
        manager.save(checkpoint_number=trainer.step)
        history.append(metrics)
        write_text(os.path.join(workdir, "metrics.jsonl"),
                   "".join(json.dumps(row) + "\n" for row in history))
        plots.learning_curve(history, os.path.join(workdir, "learning_curve.png"))
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
                             "Resume from the last checkpoint with a smaller "
                             "--base_learning_rate and another --workdir.")
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
        self.live = sys.stdout.isatty()
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

    def end_epoch(self, metrics):
        """Ends the epoch's line with the evaluation."""
        self.last = time.monotonic()  # evaluation does not count as training time
        start = "\r" if self.live else ""
        print(f"{start}{self.line}  held-out {metrics['eval_accuracy']:.2%}", flush=True)


def _clock(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
