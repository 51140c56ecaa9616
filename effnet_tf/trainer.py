"""What is one step of training, and what is its state?

`Trainer` holds the models, the optimiser and the compiled loops over them, under any
tf.distribute strategy; `train.run` decides when to call them.
"""

import contextlib
import json
import os

import keras
import tensorflow as tf

from effnet_tf import data, finetune, formats, model as model_lib, optim, weights
from effnet_tf.config import InputError
from effnet_tf.layers import BatchNorm


def _policy_name(recipe, strategy):
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
        with strategy.scope(), _dtype_policy(_policy_name(recipe, strategy)):
            self.models = {"raw": self._build()}
            self._freeze(self.models["raw"])
            self.optimizer = optim.optimizer(recipe, self.steps_per_epoch)
            self.optimizer.build(self.models["raw"].trainable_variables)
            if recipe.ema_decay:
                self.models["ema"] = self._build()
                self._copy_weights()
            self.sums = {name: self._sum_variable() for name in self._sum_names()}
        normalize = self.models["raw"].get_layer("normalization")
        # They come with the initial weights, and so belong into the checkpoint.
        self.constants = {name: tf.Variable(getattr(normalize, name), dtype=tf.float64)
                          for name in ("mean", "std")}
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
        model = model_lib.model_fn(
            recipe.resolved_variant(), len(self.source.class_names),
            classifier_activation=None, dropout_rate=recipe.dropout_rate,
            drop_connect_rate=recipe.drop_connect_rate)
        for layer in model._flatten_layers():
            if isinstance(layer, BatchNorm):
                layer.momentum = recipe.batch_norm_momentum
        return model

    def _freeze(self, model):
        """Freezes what the recipe says; the average needs nothing, it never trains."""
        if self.recipe.freeze_until or self.recipe.batch_norm != "trainable":
            finetune.set_trainable(
                model, self.recipe.freeze_until or "stem", self.recipe.batch_norm)

    def load_initial_weights(self):
        """Starts from the recipe's `init_weights`, but for a classifier of other classes."""
        raw, start = self.models["raw"], self.recipe.init_weights
        classifier = raw.get_layer("predictions")
        fresh = classifier.get_weights()
        report = weights.load_weights(raw, start, adapt=True)
        if report.exact:  # else it has been printed
            print(report)
        if self._is_of_other_classes(start):
            classifier.set_weights(fresh)
            print("Its classes are not these: the classifier starts afresh.")
        for name, constants in self.constants.items():
            constants.assign(getattr(raw.get_layer("normalization"), name))
        self.restore_constants()
        if "ema" in self.models:
            self._copy_weights()

    def _is_of_other_classes(self, start):
        """Whether weights are of a run of ours on other classes; of a file nobody knows."""
        prefix = formats.checkpoint_prefix(start)
        path = prefix and os.path.join(os.path.dirname(os.path.dirname(prefix)), "classes.json")
        if not path or not tf.io.gfile.exists(path):
            return False
        with tf.io.gfile.GFile(path) as file:
            try:
                return tuple(json.load(file)) != self.source.class_names
            except ValueError as error:
                raise InputError(f"'{path}' is damaged: {error}.") from error

    def restore_constants(self):
        """Gives every model the pixel constants of the checkpoint; before the first step."""
        for model in self.models.values():
            for name, constants in self.constants.items():
                setattr(model.get_layer("normalization"), name, constants.numpy().tolist())

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
        statistics = [
            variable.value for layer in self.models["raw"]._flatten_layers()
            if isinstance(layer, BatchNorm) and layer.trainable and layer.mode == "trainable"
            for variable in layer.non_trainable_weights]
        if self.replicas > 1 and statistics:
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
        known = {id(variable) for variable in raw.weights}
        # Keras' seed generators are no part of any Keras or TensorFlow checkpoint.
        seeds = [variable for variable in raw.variables if id(variable) not in known]
        groups = {
            "weights": {variable.path: variable.value for variable in raw.weights},
            "optimizer": {str(number): variable.value
                          for number, variable in enumerate(self.optimizer.variables)},
            "seeds": {str(number): variable.value for number, variable in enumerate(seeds)},
            "normalization": self.constants}
        if "ema" in self.models:
            groups["ema"] = {variable.path: variable.value
                             for variable in self.models["ema"].weights}
        return tf.train.Checkpoint(**groups)

    @property
    def step(self):
        return int(self.optimizer.iterations.numpy())
