"""What does one step of training compute? Read `Step.__call__` first.

It runs on every replica of a tf.distribute strategy, compiled, and never returns to
Python. All its randomness is a function of (seed, step, replica).
"""

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.data import augment
from effnet_tf.layers import batch_norms, masks_from
from effnet_tf.recipes import Recipe
from effnet_tf.train import objectives
from effnet_tf.weights import pixels

# The columns of a step's row in `Step.log`: sums over the whole batch, and the verdict.
LOSS, CORRECT, IMAGES, NOT_FINITE, GOOD = range(5)
LOG_LENGTH = 2048  # rows; a loop has at most so many steps (recipes/recipe.py)


class Step:
    """One training step of a recipe; made under the scope of a strategy.

    Args:
        recipe: a `Recipe`.
        classes: how many.
        models: {"raw": model in training} and, with averaging, {"ema": its average}.
        optimizer: built on the raw model's trainable variables.
        replicas: how many there are.
        class_weights: (classes,) float32, of their losses; None: all have 1.
        label_sets: of a `data.Source`, where an image may have several names; else None.

    Attributes:
        objective: what is learned by.
        position: () int64, batches consumed.
        seed: () int64, of every mask.
        smoothed_loss: () float32; 0 before the first step.
        log: (LOG_LENGTH, 5) float32; the row of batch n is n % LOG_LENGTH.
    """

    def __init__(
        self,
        recipe: Recipe,
        classes: int,
        models: dict[str, keras.Model],
        optimizer: keras.optimizers.Optimizer,
        replicas: int,
        class_weights: np.ndarray | None = None,
        label_sets: np.ndarray | None = None,
    ):
        self.objective = objectives.of(recipe, classes, class_weights, label_sets)
        self.recipe, self.replicas = recipe, replicas
        self.models, self.optimizer = models, optimizer
        # Equal on all replicas; each assigns its own copy.
        self.position = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self.seed = tf.Variable(tf.constant(0, tf.int64), trainable=False)
        self.smoothed_loss = tf.Variable(0.0, trainable=False)
        self.log = tf.Variable(tf.zeros((LOG_LENGTH, GOOD + 1)), trainable=False)

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and it takes seconds
    def __call__(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """One step of one replica on its share of a batch.

        A bad step (not finite, or a spike of the loss) consumes its batch and changes
        nothing else.

        Args:
            batch: {"images": (N, S, S, 3) uint8, "labels": (N,) int64}, and "mixing"
                (N, 6) float32 with mixup or cutmix.

        Returns:
            () bool, whether it was a good one: the same on all replicas.
        """
        recipe, raw = self.recipe, self.models["raw"]
        # 1. Keep all that the forward pass (moving statistics) and the optimiser change:
        #    whether the step is good is known only once both have run.
        guarded = [v.value for v in (*raw.weights, *self.optimizer.variables)]
        before = [tf.identity(variable) for variable in guarded]
        # 2. Each replica's share of the gradient, and of the sums over the batch. Replicas
        #    judge the sums of all of them, and so come to the same verdict.
        gradients, sums = self._gradients(batch)
        totals = self._add_up(sums)
        good = self._is_good(totals)
        # 3. Clip by the norm of the whole batch's gradient, not of a replica's share.
        if recipe.clip_norm:
            gradients = optim.clip(gradients, recipe.clip_norm, self.replicas)
        # 4. Keras' optimisers add up the gradients of all replicas.
        self.optimizer.apply(gradients, raw.trainable_variables)
        self._average_statistics()
        # 5. Take all of it back if the step was bad, `iterations` too. A choice per variable,
        #    not a tf.cond: strategies allow no exchange between replicas inside a branch.
        for variable, old in zip(guarded, before):
            variable.assign(tf.where(good, variable, old))
        # 6. Average what has come of it; after a bad step the average moves by nothing.
        if recipe.ema_decay:
            self._update_average(good)
        # 7. Write down what the host reads after the loop, and consume the batch.
        self._record(totals, good)
        return good

    def _update_average(self, good):
        decay = optim.ema_decay(self.recipe.ema_decay, self.optimizer.iterations.value)
        optim.update_ema(
            [v.value for v in pixels.network_weights(self.models["ema"])],
            [v.value for v in pixels.network_weights(self.models["raw"])],
            tf.where(good, decay, 1.0),
        )

    def _gradients(self, batch):
        """Returns this replica's share of the gradients, and of a step's row."""
        recipe, variables = self.recipe, self.models["raw"].trainable_variables
        images, labels, targets = self._targets(batch)
        parts, sums = recipe.gradient_accumulation, tf.zeros(IMAGES + 1)
        gradients, wait = [0.0] * len(variables), False
        for part, piece in enumerate(zip(*(tf.split(t, parts) for t in (images, labels, targets)))):
            # `wait` is False, but only known after the part before: XLA drops control
            # dependencies, and would work through all parts side by side, in the memory of
            # the whole.
            piece = [piece[0] + tf.cast(wait, piece[0].dtype), *piece[1:]]
            # Masks of dropout differ from part to part, and are the same after a resume.
            key = tf.stack([self.seed, self.optimizer.iterations.value * parts + part])
            with masks_from(tf.cast(key, tf.int32)), tf.GradientTape() as tape:
                losses, row = self._losses(*piece)
                # Replicas' gradients are added up: each contributes its share of the mean.
                objective = tf.reduce_sum(losses) / recipe.batch_size
                if part == 0:  # of the weights, not of the images: once per step
                    objective += optim.l2_penalty(recipe, variables) / self.replicas
            gradients = [a + b for a, b in zip(gradients, tape.gradient(objective, variables))]
            sums += row
            # A single number that is not finite as soon as anything in the gradients is not.
            size = tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients])
            wait = size < 0
        size += sums[LOSS]
        size += tf.add_n([tf.reduce_sum(value) for value in self._statistics()] or [0.0])
        not_finite = tf.cast(tf.logical_not(tf.math.is_finite(size)), tf.float32)
        return gradients, tf.concat([sums, [not_finite]], 0)

    def _targets(self, batch):
        """Returns (images, labels, smoothed and mixed targets) of a batch."""
        images, labels = batch["images"], batch["labels"]
        targets = self.objective.targets(labels)
        if "mixing" in batch:
            images, targets = augment.mix(images, targets, batch["mixing"])
        return images, labels, targets

    def _losses(self, images, labels, targets):
        """Returns the losses (N,) in training mode, and their row of sums (3,)."""
        logits = self.models["raw"](images, training=True)
        losses = self.objective.losses(targets, logits)
        hits = self.objective.hits(labels, logits)
        return losses, tf.stack(
            [tf.reduce_sum(losses), tf.reduce_sum(hits), tf.cast(tf.size(losses), tf.float32)]
        )

    def _add_up(self, sums):
        if self.replicas == 1:
            return sums
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, sums)

    def _is_good(self, totals):
        """Whether a step may change the state: the same on all replicas."""
        good = totals[NOT_FINITE] == 0
        if self.recipe.loss_spike:
            # A low loss jumps easily: below twice the loss of guessing nothing is a spike.
            guessing = self.objective.guessing
            limit = tf.maximum(self.recipe.loss_spike * self.smoothed_loss, 2 * guessing)
            is_first = self.smoothed_loss == 0
            good &= is_first | (totals[LOSS] / totals[IMAGES] <= limit)
        return good

    def _record(self, totals, good):
        """Logs a step, and moves to the next batch."""
        loss = totals[LOSS] / totals[IMAGES]
        smoothed = tf.where(self.smoothed_loss == 0, loss, 0.99 * self.smoothed_loss + 0.01 * loss)
        self.smoothed_loss.assign(tf.where(good, smoothed, self.smoothed_loss))
        row = tf.concat([totals, [tf.cast(good, tf.float32)]], 0)
        place = tf.one_hot(self.position % LOG_LENGTH, LOG_LENGTH, on_value=True, off_value=False)
        self.log.assign(tf.where(place[:, tf.newaxis], row, self.log))
        self.position.assign_add(1)

    def _statistics(self):
        """The moving statistics that training moves."""
        return [
            variable.value
            for layer in batch_norms(self.models["raw"])
            if layer.trainable and layer.mode == "trainable"
            for variable in layer.non_trainable_weights
        ]

    def _average_statistics(self):
        """Gives all replicas the mean of their batch-norm statistics.

        Keras 3 lets each replica keep its own; they would evaluate differently, and a
        checkpoint would hold the first one's.
        """
        statistics = self._statistics()
        if self.replicas > 1 and statistics:
            means = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.MEAN, [tf.identity(value) for value in statistics]
            )
            for statistic, mean in zip(statistics, means):
                statistic.assign(mean)
