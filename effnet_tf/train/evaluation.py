"""How good is a network on the held-out images?

Every image counts exactly once, on however many replicas: the last batches are filled up with
padding of weight 0.
"""

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import data, multilabel
from effnet_tf.recipes import Recipe
from effnet_tf.train import objectives
from effnet_tf.train.kept import Kept, sum_variable
from effnet_tf.train.strategy import opened


class Evaluation:
    """The evaluation of some models; made under the scope of a strategy.

    Args:
        recipe: a `Recipe`.
        source: a `data.Source`.
        models: {name: model that gives logits}; the last one gives the plain names of metrics.
        strategy: a tf.distribute strategy.
        per_replica: images of a batch on one replica.
        stop: () bool; once True, the loop ends after the batch in flight.

    Attributes:
        sums: {name: () float32}, over the images so far; one per replica, added up when read.
        thresholds: (classes,) float64 of the last evaluation, from which on a name is given, where
            an image may have several; else None.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: data.Source,
        models: dict[str, keras.Model],
        strategy: tf.distribute.Strategy,
        per_replica: int,
        stop: tf.Variable,
    ):
        self._recipe, self._source, self._models = recipe, source, models
        self._strategy, self._per_replica, self._stop = strategy, per_replica, stop
        self._size = recipe.resolved_variant().resolution
        self._dataset: tf.distribute.DistributedDataset | None = None  # made when first used
        self._num_batches = 0  # that every host takes
        names = ["images", "usable"]
        for model in models:
            names += [f"loss_{model}", f"correct_{model}"]
        self.sums = {name: sum_variable() for name in names}
        classes, sets = len(source.class_names), source.label_sets
        self._objective = objectives.of(recipe, classes, None, sets)
        self.thresholds: np.ndarray | None = None
        self._kept: Kept | None = None
        if sets is not None:
            self._kept = Kept(source.num_eval, classes, list(models))
        self._compiled = tf.function(self._steps)  # once, whatever the number of steps

    def evaluate(self) -> dict[str, float] | None:
        """Evaluates every held-out image once.

        Returns:
            {"eval_loss", "eval_accuracy"} of the averaged weights (of the raw ones without
            averaging), {"eval_loss_raw", ...} of each model, and "eval_images"; None if
            `stop` was set meanwhile. Images that cannot be used count as wrong, and as
            "eval_bad_images". Where an image may have several names, accuracy is the share of
            images of which all names are right at 1/2, and there are "eval_map" and
            "eval_map_micro", of the images that can be used.
        """
        for variable in self.sums.values():
            variable.assign(0.0)
        if self._kept is not None:
            self._kept.clear()
        if self._dataset is None:  # traced once, not for every evaluation
            self._dataset = self._strategy.distribute_datasets_from_function(self._batches)
        iterator = opened(self._dataset, "evaluation")
        self._compiled(iterator, tf.constant(self._num_batches))
        if self._stop.numpy():
            return None
        metrics = self._metrics(
            {name: float(variable.read_value()) for name, variable in self.sums.items()}
        )
        if self._kept is not None:
            metrics |= self._rank(*self._kept.read())
        return metrics

    def _batches(self, context):
        """Returns the batches of one host."""
        hosts = context.num_input_pipelines
        local_replicas = self._strategy.num_replicas_in_sync // hosts
        images = -(-self._source.num_eval // hosts)  # every host takes as many steps
        self._num_batches = -(-images // (self._per_replica * local_replicas))
        return data.evaluation(
            self._source,
            self._recipe,
            self._size,
            self._per_replica,
            self._num_batches * local_replicas,
            shard=context.input_pipeline_id,
            num_shards=hosts,
        )

    def _steps(self, iterator, count):
        done = tf.constant(0)
        while tf.logical_and(done < count, tf.logical_not(self._stop)):
            self._strategy.run(self.step, args=(next(iterator),))
            done += 1

    @tf.autograph.experimental.do_not_convert
    def step(self, batch: dict[str, tf.Tensor]) -> None:
        """Adds up loss and hits of every model on one replica's share of a batch.

        Args:
            batch: as of `data.evaluation`. A bad image, of label -1, is one that nobody hits,
                and has no loss.
        """
        labels, share = batch["labels"], batch["weights"]
        usable = share * tf.cast(labels >= 0, tf.float32)
        answers = {
            name: model(batch["images"], training=False) for name, model in self._models.items()
        }
        for name, logits in answers.items():
            losses = self._objective.plain_losses(labels, logits)
            hits = self._objective.hits(labels, logits)
            self.sums[f"loss_{name}"].assign_add(tf.reduce_sum(losses * usable))
            self.sums[f"correct_{name}"].assign_add(tf.reduce_sum(hits * share))
        self.sums["images"].assign_add(tf.reduce_sum(share))
        self.sums["usable"].assign_add(tf.reduce_sum(usable))
        if self._kept is not None:
            self._kept.add(batch["numbers"], share, labels, answers)

    def _metrics(self, sums):
        count, usable = sums["images"], sums["usable"]
        if count != self._source.num_eval:
            raise RuntimeError(f"Evaluated {count:.0f} images instead of {self._source.num_eval}.")
        metrics = {"eval_images": int(count)}
        if usable < count:
            metrics["eval_bad_images"] = int(count - usable)
        for name in self._models:  # "ema" comes last, and so is the plain name's meaning
            loss = sums[f"loss_{name}"] / max(usable, 1.0)
            accuracy = sums[f"correct_{name}"] / count
            metrics[f"eval_loss_{name}"] = metrics["eval_loss"] = loss
            metrics[f"eval_accuracy_{name}"] = metrics["eval_accuracy"] = accuracy
        return metrics

    def _rank(self, labels, chances):
        """Returns the metrics of the ranking of all names, and chooses their thresholds."""
        usable, metrics = labels >= 0, {}
        present = self._source.label_sets[labels[usable]]
        for name in self._models:  # the last one has the plain names, as above
            scores = chances[name][usable]
            precision = multilabel.macro(multilabel.average_precisions(present, scores))
            metrics[f"eval_map_{name}"] = metrics["eval_map"] = precision
        metrics["eval_map_micro"] = multilabel.micro(present, scores)
        self.thresholds = multilabel.best_thresholds(present, scores)
        return metrics
