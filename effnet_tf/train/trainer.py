"""What is the state of a training, and how is it run forward?

`Trainer` holds the models, the optimiser and the compiled loops over them, under any
tf.distribute strategy; `train.run` decides when to call them.

All randomness is a function of (seed, step, replica) or of (seed, number of the example).
So the registry `state` is everything that a resumed run needs:

    weights/*, batch_norm/*     of the network          step      successful steps
    ema/*                       averages of both        position  batches consumed
    slots/*                     of the optimiser        seed      of every mask
    normalization/*             the pixel constants     totals/*  of the running epoch
    guard/*                     what the guard against bad steps remembers
"""

import contextlib
import os

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import data, optim, storage
from effnet_tf.errors import InputError
from effnet_tf.models import build, finetune
from effnet_tf.runs import checkpoints, texts
from effnet_tf.runs.locate import checkpoint_prefix
from effnet_tf.train.step import LOG_LENGTH, Step, batch_norms
from effnet_tf.weights import loading


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
        optimizer: its `iterations` count the steps that changed something.
        state: {name: tf.Variable}, the registry of all that a checkpoint holds.
        stop: tf.Variable; once True, the loop ends after the step in flight.
        steps_per_epoch: a float.
        total_steps: of the whole run.

    Raises:
        InputError: a batch that the replicas cannot share, or groups that do not fit.
    """

    def __init__(self, recipe, source, strategy):
        self.recipe, self.source, self.strategy = recipe, source, strategy
        self.replicas = strategy.num_replicas_in_sync
        self.size = recipe.resolved_variant().resolution
        self.per_replica = self._share(recipe.batch_size, "batch_size")
        self.eval_per_replica = self._share(
            recipe.eval_batch_size or recipe.batch_size, "eval_batch_size"
        )
        if self.per_replica % recipe.gradient_accumulation:
            raise InputError(
                f"A replica has {self.per_replica} images of a batch, which cannot be "
                f"cut into {recipe.gradient_accumulation} equal parts "
                "(gradient_accumulation)."
            )
        self.sync_replicas = replicas_in_sync(recipe.bn_sync, self.replicas)
        self.steps_per_epoch = source.num_train / recipe.batch_size
        self.total_steps = round(recipe.epochs * self.steps_per_epoch)
        keras.utils.set_random_seed(recipe.seed)  # the initial weights
        with strategy.scope(), _dtype_policy(_policy_name(recipe, strategy)):
            self._make_models()
            self.train_step = Step(
                recipe, len(source.class_names), self.models, self.optimizer, self.replicas
            )
            self.eval_sums = {name: self._sum_variable() for name in self._sum_names()}
        self.stop = tf.Variable(False, trainable=False)
        self.state = self._registry()
        # Compiled once each, whatever the number of steps.
        self.train_steps = tf.function(self._train_steps)
        self.eval_steps = tf.function(self._eval_steps)

    def _share(self, batch_size, name):
        if batch_size % self.replicas:
            raise InputError(
                f"{name} is {batch_size}, which {self.replicas} replicas cannot "
                f"share: use a multiple of {self.replicas}."
            )
        return batch_size // self.replicas

    # --- models and variables -----------------------------------------------------------------

    def _make_models(self):
        recipe = self.recipe
        self.models = {"raw": self.build()}
        self._freeze(self.models["raw"])
        self.schedule = optim.schedule(recipe, self.steps_per_epoch)
        self.optimizer = optim.optimizer(recipe, self.steps_per_epoch)
        self.optimizer.build(self.models["raw"].trainable_variables)
        if recipe.ema_decay:
            self.models["ema"] = self.build()
            self._copy_weights()

    def build(self):
        """Returns a new network of the recipe that gives logits."""
        recipe = self.recipe
        model = build.model_fn(
            recipe.resolved_variant(),
            len(self.source.class_names),
            input_shape=(None, None, 3) if recipe.start_image_size else None,
            classifier_activation=None,
            dropout_rate=recipe.dropout_rate,
            drop_connect_rate=recipe.drop_connect_rate,
        )
        for layer in batch_norms(model):
            layer.momentum = recipe.batch_norm_momentum
            layer.sync_replicas = self.sync_replicas
        return model

    def _freeze(self, model):
        """Freezes what the recipe says; the average needs nothing, it never trains."""
        if self.recipe.freeze_until or self.recipe.batch_norm != "trainable":
            finetune.set_trainable(
                model, self.recipe.freeze_until or "stem", self.recipe.batch_norm
            )

    def _sum_names(self):
        return [
            "images",
            "usable",
            *(f"{what}_{name}" for name in self.models for what in ("loss", "correct")),
        ]

    @staticmethod
    def _sum_variable():
        # One per replica, added up when read: exact, and no traffic inside the loop.
        return tf.Variable(
            0.0,
            trainable=False,
            aggregation=tf.VariableAggregation.SUM,
            synchronization=tf.VariableSynchronization.ON_READ,
        )

    def _registry(self):
        raw, slots = self.models["raw"], self.optimizer.variables[1:]
        normalize = raw.get_layer("normalization")
        with tf.device("CPU"):
            # They come with the initial weights, and so belong into the checkpoint.
            self.constants = {
                name: tf.Variable(getattr(normalize, name), dtype=tf.float64)
                for name in ("mean", "std")
            }
            self.totals = {
                name: tf.Variable(0.0, dtype=tf.float64) for name in ("loss", "correct", "images")
            }
            # forgiven: batches before this number have had their rollback; returned_to: its step.
            self.guard = {
                name: tf.Variable(value, dtype=tf.int64)
                for name, value in (
                    ("bad_steps", 0),
                    ("rollbacks", 0),
                    ("forgiven", 0),
                    ("returned_to", -1),
                )
            }
        state = {
            ("batch_norm/" if "moving_" in v.path else "weights/") + v.path: v.value
            for v in raw.weights
        }
        if "ema" in self.models:
            state |= {f"ema/{v.path}": v.value for v in self.models["ema"].weights}
        # Not the whole path: Keras numbers the optimisers of a process.
        state |= {
            f"slots/{number:04}/{v.path.partition('/')[2]}": v.value
            for number, v in enumerate(slots)
        }
        for group, values in (
            ("normalization", self.constants),
            ("totals", self.totals),
            ("guard", self.guard),
        ):
            state |= {f"{group}/{name}": variable for name, variable in values.items()}
        step = self.train_step
        return state | {
            "step": self.optimizer.iterations.value,
            "position": step.position,
            "seed": step.seed,
            "guard/smoothed_loss": step.smoothed_loss,
        }

    def start(self):
        """Prepares a new run: the seed, and the recipe's initial weights."""
        self.train_step.seed.assign(self.recipe.seed)
        if self.recipe.init_weights:
            self._load_initial_weights()

    def _load_initial_weights(self):
        """Starts from the recipe's `init_weights`, but for a classifier of other classes."""
        raw, start = self.models["raw"], self.recipe.init_weights
        classifier = raw.get_layer("predictions")
        fresh = classifier.get_weights()
        report = loading.load_weights(raw, start, adapt=True)
        if report.exact:  # else it has been printed
            print(report)
        if self._is_of_other_classes(start):
            classifier.set_weights(fresh)
            print("Its classes are not these: the classifier starts afresh.")
        for name, constants in self.constants.items():
            constants.assign(getattr(raw.get_layer("normalization"), name))
        self._hand_on_constants()
        if "ema" in self.models:
            self._copy_weights()

    def _is_of_other_classes(self, start):
        """Whether weights are of a run of ours on other classes; of a file nobody knows."""
        prefix = checkpoint_prefix(start)
        if not prefix or os.path.basename(prefix) != checkpoints.PREFIX:
            return False
        run = os.path.dirname(os.path.dirname(os.path.dirname(prefix)))
        path = os.path.join(run, "classes.json")
        return storage.exists(path) and texts.read_classes(path) != self.source.class_names

    def _hand_on_constants(self):
        """Gives every model the pixel constants of the state; before the first step."""
        for model in self.models.values():
            for name, constants in self.constants.items():
                setattr(model.get_layer("normalization"), name, constants.numpy().tolist())

    def _copy_weights(self):
        for average, variable in zip(self.models["ema"].weights, self.models["raw"].weights):
            average.assign(variable.value)

    def snapshot(self):
        """Returns {name: array} of the whole state."""
        return {name: variable.numpy() for name, variable in self.state.items()}

    def restore(self, values):
        """Takes over a snapshot.

        Raises:
            InputError: it is of another network, recipe or version.
        """
        expected = {name: tuple(variable.shape) for name, variable in self.state.items()}
        found = {name: np.shape(value) for name, value in values.items()}
        if expected != found:
            odd = sorted(
                name for name in {**expected, **found} if expected.get(name) != found.get(name)
            )
            raise InputError(
                f"The checkpoint is of another version of effnet_tf, or another "
                f"program ({len(odd)} entries differ, such as '{odd[0]}'): use "
                "another --workdir, and --init_weights to start from it."
            )
        for name, variable in self.state.items():
            variable.assign(values[name])
        self._hand_on_constants()

    @property
    def step(self):
        """Steps that changed something, of this run and those it resumes."""
        return int(self.optimizer.iterations.numpy())

    @property
    def position(self):
        """Batches consumed; more than `step` after bad steps."""
        return int(self.train_step.position.numpy())

    # --- training -----------------------------------------------------------------------------

    def _train_steps(self, iterator, count):
        """Runs up to `count` steps on the device; returns the seconds spent waiting for data.

        On a TPU, where a step is only started from here, the next batch is fetched
        meanwhile: there the seconds include that, and are an upper bound.
        """
        waits = not isinstance(self.strategy, tf.distribute.TPUStrategy)
        done, waited, last = tf.constant(0), tf.constant(0.0, tf.float64), tf.constant(True)
        while tf.logical_and(done < count, tf.logical_not(self.stop)):
            with tf.control_dependencies([last] if waits else []):
                start = tf.timestamp()
            with tf.control_dependencies([start]):
                batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                waited += tf.timestamp() - start
            good = self.strategy.run(self.train_step, args=(batch,))
            if waits:
                last = self.strategy.experimental_local_results(good)[0]
            done += 1
        return waited

    def rows_since(self, position):
        """Returns the rows (steps, 5) of the batches from `position` on."""
        numbers = np.arange(position, self.position) % LOG_LENGTH
        return self.train_step.log.numpy()[numbers]

    def train_iterator(self, position, size=None):
        """Returns the iterator over the training batches from number `position` on."""

        def dataset(context):
            hosts = context.num_input_pipelines
            start = position * self.recipe.batch_size // hosts
            return data.training(
                self.source,
                self.recipe,
                size or self.size,
                self.per_replica,
                start=start,
                shard=context.input_pipeline_id,
                num_shards=hosts,
            )

        return iter(self.strategy.distribute_datasets_from_function(dataset))

    # --- evaluation ---------------------------------------------------------------------------

    def _eval_steps(self, iterator, count):
        done = tf.constant(0)
        while tf.logical_and(done < count, tf.logical_not(self.stop)):
            self.strategy.run(self._eval_step, args=(next(iterator),))
            done += 1

    @tf.autograph.experimental.do_not_convert
    def _eval_step(self, batch):
        """Adds up loss and hits of every model on a batch; padding has weight 0.

        A bad image, of label -1, is one that nobody hits, and has no loss.
        """
        labels, share = batch["labels"], batch["weights"]
        usable = share * tf.cast(labels >= 0, tf.float32)
        for name, model in self.models.items():
            logits = model(batch["images"], training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
            hits = tf.cast(tf.argmax(logits, -1) == labels, tf.float32)
            self.eval_sums[f"loss_{name}"].assign_add(tf.reduce_sum(losses * usable))
            self.eval_sums[f"correct_{name}"].assign_add(tf.reduce_sum(hits * share))
        self.eval_sums["images"].assign_add(tf.reduce_sum(share))
        self.eval_sums["usable"].assign_add(tf.reduce_sum(usable))

    def evaluate(self):
        """Evaluates every held-out image once.

        Returns:
            {"eval_loss", "eval_accuracy"} of the averaged weights (of the raw ones without
            averaging), {"eval_loss_raw", ...} of each model, and "eval_images"; None if
            `stop` was set meanwhile. Images that cannot be used count as wrong, and as
            "eval_bad_images".
        """
        batches = {}

        def dataset(context):
            hosts = context.num_input_pipelines
            local_replicas = self.replicas // hosts
            images = -(-self.source.num_eval // hosts)  # every host takes as many steps
            batches["steps"] = -(-images // (self.eval_per_replica * local_replicas))
            return data.evaluation(
                self.source,
                self.recipe,
                self.size,
                self.eval_per_replica,
                batches["steps"] * local_replicas,
                shard=context.input_pipeline_id,
                num_shards=hosts,
            )

        for variable in self.eval_sums.values():
            variable.assign(0.0)
        iterator = iter(self.strategy.distribute_datasets_from_function(dataset))
        self.eval_steps(iterator, tf.constant(batches["steps"]))
        if self.stop.numpy():
            return None
        return self._eval_metrics(
            {name: float(variable.read_value()) for name, variable in self.eval_sums.items()}
        )

    def _eval_metrics(self, sums):
        count = sums["images"]
        if count != self.source.num_eval:
            raise RuntimeError(f"Evaluated {count:.0f} images instead of {self.source.num_eval}.")
        metrics = {"eval_images": int(count)}
        if sums["usable"] < count:
            metrics["eval_bad_images"] = int(count - sums["usable"])
        for name in self.models:  # "ema" comes last, and so is the plain name's meaning
            for what, key, number in (
                ("loss", "loss", max(sums["usable"], 1.0)),
                ("accuracy", "correct", count),
            ):
                value = sums[f"{key}_{name}"] / number
                metrics[f"eval_{what}_{name}"] = metrics[f"eval_{what}"] = value
        return metrics


def replicas_in_sync(bn_sync, replicas):
    """Returns how many replicas share batch statistics.

    Args:
        bn_sync: of the recipe: none, all, group:N, or auto: the original's rule, utils.py:
            TpuBatchNormalization.
        replicas: how many there are.

    Raises:
        InputError: groups that do not divide the replicas.
    """
    if bn_sync == "auto":
        size = 1 if replicas <= 8 else max(8, replicas // 8)
    else:
        size = {"none": 1, "all": replicas}.get(bn_sync) or int(bn_sync.partition(":")[2])
    if replicas % size:
        raise InputError(
            f"bn_sync {bn_sync} makes groups of {size} replicas, which do not divide "
            f"{replicas}: use group:N with a divisor."
        )
    return size
