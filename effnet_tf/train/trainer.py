"""How is a training run forward?

`Trainer` holds the models, the optimiser and the compiled loops over them, under any
tf.distribute strategy; `train.run` decides when to call them.
"""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import data, optim
from effnet_tf.data import balance
from effnet_tf.errors import InputError
from effnet_tf.layers import Dropout, batch_norms, set_remat
from effnet_tf.models import build, finetune
from effnet_tf.recipes import Recipe, stages
from effnet_tf.train.evaluation import Evaluation
from effnet_tf.train.state import State, copy_weights
from effnet_tf.train.step import LOG_LENGTH, Step
from effnet_tf.train.strategy import opened, replicas_in_sync


class Trainer:
    """A model in training: its variables, and the compiled steps over them.

    Args:
        recipe: a `Recipe`.
        source: a `data.Source`.
        strategy: a tf.distribute strategy.

    Attributes:
        models: {"raw": model} and, with averaging, {"ema": model of the averages}; they
            give logits.
        optimizer: its `iterations` count the steps that changed something.
        schedule: step -> learning rate.
        state: a `State`, all that a checkpoint holds.
        stop: () bool; once True, the loop ends after the step in flight.
        replicas: how many there are.
        per_replica: images of a training batch on one replica.
        size: side of the held-out images in pixels.
        steps_per_epoch: a float.
        total_steps: of the whole run.
        stages: of the run, in order; one unless its images grow.

    Raises:
        InputError: a batch that the replicas cannot share, or groups that do not fit.
    """

    def __init__(self, recipe: Recipe, source: data.Source, strategy: tf.distribute.Strategy):
        self.recipe, self.source, self.strategy = recipe, source, strategy
        self.replicas = strategy.num_replicas_in_sync
        self.size = recipe.resolved_variant().resolution
        self.per_replica = _share(recipe.batch_size, self.replicas, "batch_size")
        self.eval_per_replica = _share(
            recipe.eval_batch_size or recipe.batch_size, self.replicas, "eval_batch_size"
        )
        _check_parts(self.per_replica, recipe.gradient_accumulation)
        self.sync_replicas = replicas_in_sync(recipe.bn_sync, self.replicas)
        self.steps_per_epoch = source.num_train / recipe.batch_size
        self.total_steps = round(recipe.epochs * self.steps_per_epoch)
        self.stages = stages.of_run(recipe, self.steps_per_epoch)
        self.stop = tf.Variable(False, trainable=False)
        keras.utils.set_random_seed(recipe.seed)  # the initial weights
        with strategy.scope(), _dtype_policy(_policy_name(recipe, strategy)):
            self._make_models()
            classes, sets = len(source.class_names), source.label_sets
            weights = balance.weights(recipe, source)
            self.train_step = Step(
                recipe, classes, self.models, self.optimizer, self.replicas, weights, sets
            )
            self.evaluation = Evaluation(
                recipe, source, self.models, strategy, self.eval_per_replica, self.stop
            )
        self.state = State(recipe, source.class_names, self.models, self.optimizer, self.train_step)
        self.begin_stage(self.stages[0])

    # --- models -------------------------------------------------------------------------------

    def _make_models(self):
        recipe = self.recipe
        self.models = {"raw": self.build()}
        if recipe.freeze_until or recipe.batch_norm != "trainable":
            # The average needs nothing, it never trains.
            finetune.set_trainable(
                self.models["raw"], recipe.freeze_until or "stem", recipe.batch_norm
            )
        self.schedule = optim.schedule(recipe, self.steps_per_epoch)
        self.optimizer = optim.optimizer(recipe, self.steps_per_epoch)
        self.optimizer.build(self.models["raw"].trainable_variables)
        if recipe.ema_decay:
            self.models["ema"] = self.build()
            copy_weights(self.models)

    def build(self) -> keras.Model:
        """Returns a new network of the recipe that gives logits."""
        recipe, input_shape = self.recipe, None
        if any(stage.image_size != self.size for stage in self.stages):
            input_shape = (None, None, 3)
        model = build.model_fn(
            recipe.resolved_variant(),
            len(self.source.class_names),
            input_shape=input_shape,
            classifier_activation=None,
            dropout_rate=recipe.dropout_rate,
            drop_connect_rate=recipe.drop_connect_rate,
        )
        for layer in batch_norms(model):
            layer.momentum = recipe.batch_norm_momentum
            layer.sync_replicas = self.sync_replicas
        if recipe.remat != "none":
            set_remat(model, recipe.remat)
        return model

    # --- where it stands ----------------------------------------------------------------------

    def start(self) -> None:
        """Prepares a new run: the seed, and the recipe's initial weights."""
        self.state.start()

    def snapshot(self) -> dict[str, np.ndarray]:
        """Returns {name: array} of the whole state."""
        return self.state.snapshot()

    def restore(self, values: dict[str, np.ndarray]) -> None:
        """Takes over a snapshot; an InputError if it is of another network or version."""
        self.state.restore(values)

    @property
    def step(self) -> int:
        """Steps that changed something, of this run and those it resumes."""
        return int(self.optimizer.iterations.numpy())

    @property
    def position(self) -> int:
        """Batches consumed; more than `step` after bad steps."""
        return int(self.train_step.position.numpy())

    @property
    def is_inside_epoch(self) -> bool:
        """Whether steps of the running epoch have been made, but not yet its evaluation."""
        return bool(self.state.totals["images"].numpy() > 0)

    @property
    def is_done(self) -> bool:
        """Whether all steps have been made, and the last epoch has been evaluated too."""
        return self.step >= self.total_steps and not self.is_inside_epoch

    def current_epoch(self) -> tuple[int, int]:
        """Returns (number, its last step) of the epoch that is to be trained or evaluated."""
        epoch = max(1, int(self.step / self.steps_per_epoch) - 1)
        while True:  # ends are rounded, and so found by looking
            end = min(round(epoch * self.steps_per_epoch), self.total_steps)
            if end > self.step or (end == self.step and self.is_inside_epoch):
                return epoch, end
            epoch += 1

    @property
    def stage(self) -> stages.Stage:
        """The stage of the next step."""
        return stages.at(self.stages, self.step)

    def learning_rate(self) -> float:
        """Returns the rate of the next step."""
        return float(self.optimizer.learning_rate)

    # --- what it does -------------------------------------------------------------------------

    def begin_stage(self, stage: stages.Stage) -> None:
        """Prepares the steps of a stage, which are compiled anew for its images and dropout."""
        if stage.recipe.start_dropout_rate is not None:
            _set_dropout(self.models["raw"], stage.recipe.dropout_rate)
        self.train_steps = tf.function(self._train_steps)  # compiled once for any count

    def _train_steps(self, iterator, count):
        """Runs up to `count` steps on the device; returns the seconds spent waiting for data.

        On a TPU, where a step is only started from here, the next batch is fetched
        meanwhile: there the seconds include that, and are an upper bound.
        """
        waits = not isinstance(self.strategy, tf.distribute.TPUStrategy)
        done, waited, last = tf.constant(0), tf.constant(0.0, tf.float64), tf.constant(True)
        while tf.logical_and(done < count, tf.logical_not(self.stop)):
            # The clock starts when the step before has ended, not when the graph allows it.
            with tf.control_dependencies([last] if waits else []):
                start = tf.timestamp()
            with tf.control_dependencies([start]):
                batch = next(iterator)
            # And stops once every part of the batch is there.
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - start
            good = self.strategy.run(self.train_step, args=(batch,))
            if waits:
                last = self.strategy.experimental_local_results(good)[0]
            done += 1
        return waited

    def rows_since(self, position: int) -> np.ndarray:
        """Returns the rows (steps, 5) float32 of the batches from `position` on.

        The columns are those of step.py: LOSS, CORRECT, IMAGES, NOT_FINITE, GOOD.
        """
        numbers: np.ndarray = np.arange(position, self.position) % LOG_LENGTH
        return self.train_step.log.numpy()[numbers]

    def train_iterator(
        self, position: int, stage: stages.Stage | None = None
    ) -> tf.distribute.DistributedIterator:
        """Returns the iterator over the training batches from number `position` on.

        Args:
            position: batches that have been consumed.
            stage: that of these batches; by default the first.
        """
        batches = functools.partial(_batches, self, position, stage or self.stages[0])
        return opened(self.strategy.distribute_datasets_from_function(batches), "training")

    def evaluate(self) -> dict[str, float] | None:
        """Evaluates every held-out image once; None if `stop` was set meanwhile."""
        found = self.evaluation.evaluate()
        self.state.note_thresholds(self.evaluation.thresholds)
        return found


def _set_dropout(model, rate):
    """Gives the dropout before the classifier a rate; a network without any has no such layer."""
    for layer in model.layers:
        if isinstance(layer, Dropout):
            layer.rate = rate


def _batches(trainer, position, stage, context):
    """Returns the training batches of one host from a position on."""
    hosts = context.num_input_pipelines
    return data.training(
        trainer.source,
        stage.recipe,
        stage.image_size,
        trainer.per_replica,
        start=position * trainer.recipe.batch_size // hosts,
        shard=context.input_pipeline_id,
        num_shards=hosts,
    )


def _policy_name(recipe, strategy):
    """The dtype policy of a recipe on a strategy (auto: bfloat16 on TPU only)."""
    if recipe.precision != "auto":
        return recipe.precision
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "mixed_bfloat16"
    return "float32"


@contextlib.contextmanager
def _dtype_policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _share(batch_size, replicas, name):
    """Returns the images of a batch on one replica."""
    if batch_size % replicas:
        raise InputError(
            f"{name} is {batch_size}, which {replicas} replicas cannot "
            f"share: use a multiple of {replicas}."
        )
    return batch_size // replicas


def _check_parts(per_replica, parts):
    if per_replica % parts:
        raise InputError(
            f"A replica has {per_replica} images of a batch, which cannot be "
            f"cut into {parts} equal parts (gradient_accumulation)."
        )
