"""A trainer without a network, for tests of what the loop around it decides and writes.

A run of the real one takes seconds of tracing; this one's weight is a number that every step
moves by the learning rate, the number of the batch and the size of its images, so that a step more
or less, or under another recipe or in another stage, is seen in it. Its checkpoints, files and
refusals are those of the real loop.
"""

import types

import numpy as np
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.recipes import stages
from effnet_tf.train.state import State
from effnet_tf.train.step import GOOD, LOG_LENGTH
from effnet_tf.train.trainer import Trainer

# By epoch, from 1 on, what `ToyTrainer.evaluate` finds; later epochs have the last.
ACCURACIES = (0.5, 0.625, 0.75, 0.75, 0.5, 0.625)


class ToyState(State):
    """The state of a `ToyTrainer`."""

    def __init__(self, trainer):
        guard = {"bad_steps": 0, "rollbacks": 0, "forgiven": 0, "returned_to": -1}
        self._models, self.constants = {}, {}
        self.totals = {
            name: tf.Variable(0.0, dtype=tf.float64) for name in ("loss", "correct", "images")
        }
        self.guard = {name: tf.Variable(value, dtype=tf.int64) for name, value in guard.items()}
        self.variables = {
            "weights/w": trainer.weight,
            "step": trainer.optimizer.iterations,
            "position": trainer.train_step.position,
            **{f"totals/{name}": variable for name, variable in self.totals.items()},
            **{f"guard/{name}": variable for name, variable in self.guard.items()},
        }

    def start(self):
        """The weight is 0 already."""


class ToyTrainer(Trainer):
    """See above; takes the arguments of a `Trainer`."""

    def __init__(self, recipe, source, strategy):
        self.recipe, self.source, self.strategy = recipe, source, strategy
        self.replicas = self.sync_replicas = 1
        self.size, self.per_replica = 32, recipe.batch_size
        self.steps_per_epoch = source.num_train / recipe.batch_size
        self.total_steps = round(recipe.epochs * self.steps_per_epoch)
        self.stages = stages.of_run(recipe, self.steps_per_epoch)
        self.stop = tf.Variable(False, trainable=False)
        self.models, self.weight = {}, tf.Variable(0.0, dtype=tf.float64)
        self.schedule = optim.schedule(recipe, self.steps_per_epoch)
        self.train_step = types.SimpleNamespace(
            position=tf.Variable(0, dtype=tf.int64),
            log=tf.Variable(tf.zeros((LOG_LENGTH, GOOD + 1)), trainable=False),
        )
        self.optimizer = types.SimpleNamespace(iterations=tf.Variable(0, dtype=tf.int64))
        self.state = ToyState(self)

    def learning_rate(self):
        return float(self.schedule(self.step))

    def begin_stage(self, stage):
        """Nothing is compiled here."""

    def train_iterator(self, position, stage=None):
        return stage or self.stages[0]

    def train_steps(self, iterator, count):
        for _ in range(int(count)):
            position, rate = self.position, self.learning_rate()
            size = iterator.image_size / self.size  # 1, unless images grow
            self.weight.assign(0.9 * self.weight + size * rate * (1 + position))
            row = [16 + rate, 8.0, 16.0, 0.0, 1.0]
            self.train_step.log[position % LOG_LENGTH].assign(row)
            self.train_step.position.assign_add(1)
            self.optimizer.iterations.assign_add(1)
        return 0.0

    def evaluate(self):
        epoch = round(self.step / self.steps_per_epoch)
        accuracy = ACCURACIES[min(epoch, len(ACCURACIES)) - 1]
        loss = float(np.exp(-self.weight.numpy()))
        return {
            "eval_images": 40,
            "eval_loss_raw": loss,
            "eval_loss": loss,
            "eval_accuracy_raw": accuracy,
            "eval_accuracy": accuracy,
        }


class Stop(Exception):
    pass


def stop_at(patch, owner, name, number):
    """Ends a run at the n-th call of a function."""
    real, calls = getattr(owner, name), []

    def stop(*arguments, **options):
        calls.append(1)
        if len(calls) == number:
            raise Stop
        return real(*arguments, **options)

    patch.setattr(owner, name, stop)
