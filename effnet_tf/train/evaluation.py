"""How good is a network on the held-out images?

Every image counts exactly once, on however many replicas: the last batches are filled up with
padding of weight 0.
"""

import keras
import tensorflow as tf

from effnet_tf import data
from effnet_tf.recipes import Recipe


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
        self.sums = {name: _sum_variable() for name in names}
        self._compiled = tf.function(self._steps)  # once, whatever the number of steps

    def evaluate(self) -> dict[str, float] | None:
        """Evaluates every held-out image once.

        Returns:
            {"eval_loss", "eval_accuracy"} of the averaged weights (of the raw ones without
            averaging), {"eval_loss_raw", ...} of each model, and "eval_images"; None if
            `stop` was set meanwhile. Images that cannot be used count as wrong, and as
            "eval_bad_images".
        """
        for variable in self.sums.values():
            variable.assign(0.0)
        if self._dataset is None:  # traced once, not for every evaluation
            self._dataset = self._strategy.distribute_datasets_from_function(self._batches)
        iterator = iter(self._dataset)
        self._compiled(iterator, tf.constant(self._num_batches))
        if self._stop.numpy():
            return None
        return self._metrics(
            {name: float(variable.read_value()) for name, variable in self.sums.items()}
        )

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
            batch: {"images": (N, S, S, 3) uint8, "labels": (N,) int64, "weights": (N,)
                float32, 0 for padding}. A bad image, of label -1, is one that nobody hits,
                and has no loss.
        """
        labels, share = batch["labels"], batch["weights"]
        usable = share * tf.cast(labels >= 0, tf.float32)
        for name, model in self._models.items():
            logits = model(batch["images"], training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
            hits = tf.cast(tf.argmax(logits, -1) == labels, tf.float32)
            self.sums[f"loss_{name}"].assign_add(tf.reduce_sum(losses * usable))
            self.sums[f"correct_{name}"].assign_add(tf.reduce_sum(hits * share))
        self.sums["images"].assign_add(tf.reduce_sum(share))
        self.sums["usable"].assign_add(tf.reduce_sum(usable))

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


def _sum_variable():
    # One per replica, added up when read: exact, and no traffic inside the loop.
    return tf.Variable(
        0.0,
        trainable=False,
        aggregation=tf.VariableAggregation.SUM,
        synchronization=tf.VariableSynchronization.ON_READ,
    )
