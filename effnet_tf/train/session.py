"""How does a run begin and end?

`run` does all of it: strategy, model, a loop of compiled steps, evaluation of every
held-out image, checkpoints, resume. runs/directory.py says what a run directory holds.
"""

import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from effnet_tf import data, extras, storage, variants
from effnet_tf.data import bad_images, balance, batches
from effnet_tf.errors import WorkerLost, first_line
from effnet_tf.layers.step_form import described
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe
from effnet_tf.runs import directory, going_on
from effnet_tf.train.goodput import Goodput
from effnet_tf.train.interruption import Interruption
from effnet_tf.train.journal import Journal
from effnet_tf.train.loop import Loop
from effnet_tf.train.profiling import Profiler
from effnet_tf.train.saving import Saver
from effnet_tf.train.strategy import choose_strategy, has_workers, is_chief
from effnet_tf.train.trainer import Trainer

# What TensorFlow raises on a worker when another one has ended.
_GONE = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def run(
    recipe: Recipe,
    workdir: str,
    strategy: tf.distribute.Strategy | None = None,
    *,
    profile: bool = False,
    extend: bool = False,
    on_metrics: Callable[[int, dict[str, float]], object] | None = None,
) -> dict[str, float]:
    """Trains, evaluates and checkpoints a recipe in a run directory; resumes one there.

    What is restored, in this order: the newest unharmed checkpoint in `workdir`; else the
    recipe's `init_weights`; else nothing. Sets Keras' global random seed to the recipe's.

    Args:
        recipe: a `Recipe`.
        workdir: a directory, local or gs://.
        strategy: a tf.distribute strategy; by default `choose_strategy()`.
        profile: whether to record five steps after the tenth with TensorFlow's profiler, in
            `workdir`/tensorboard/plugins/profile. It changes nothing that is computed.
        extend: whether a run in `workdir` may go on with another recipe: more epochs, another
            rate, other augmentation. Its schedule then begins anew at the newest checkpoint.
        on_metrics: function of (step, {name: number}) for other people's trackers, called by
            the first worker: after some steps with "train/loss", "train/accuracy",
            "learning_rate", "images_per_second" and "data_wait", and after an epoch with its row
            of metrics.jsonl. A run that was killed may hand on a row twice.

    Returns:
        A dict with the metrics of the last epoch: step, epoch, train_loss,
        train_accuracy, eval_loss, eval_accuracy (averaged weights), eval_loss_raw, ...

    Raises:
        InputError: a recipe, data set or workdir that cannot be used. Nothing new stays
            in `workdir` then, unless steps had been saved.
        TrainingStopped: loss or gradients were not finite, or the loss too high, even
            after going back to older checkpoints.
        SaveError: the disk does not take a file; older checkpoints remain.
        Preempted: the machine will be taken away; the state is saved.
        WorkerLost: one of several workers ended in the middle.
    """
    storage.check_place(workdir, "--workdir")
    goodput = Goodput(workdir)
    extras.require_for_training(recipe)
    source = data.open_source(recipe)
    bad_images.check(source, recipe.max_bad_fraction)
    recipe = going_on.settled(recipe, workdir, extend, source.num_train / recipe.batch_size)
    strategy = strategy or choose_strategy()
    with (
        _claimed(workdir, recipe, source, strategy, extend) as claim,
        Interruption(claim.take_back) as interruption,
    ):
        log.info("Building the network ...")
        trainer = Trainer(recipe, source, strategy)
        _describe(recipe, trainer)
        saver = Saver(trainer, workdir, claim, goodput, interruption)
        journal = Journal(trainer, workdir, claim, on_metrics)
        profiler = Profiler(workdir, strategy, profile)
        loop = Loop(trainer, saver, journal, profiler, goodput, interruption)
        with _told_why(source, recipe, strategy), contextlib.closing(loop):
            return loop.run()


class _OthersClaim:
    """What the workers but the first have of a run directory: it is the first one's."""

    def __call__(self):
        """Checks nothing."""

    def take_back(self):
        """Removes nothing."""


def _claimed(workdir, recipe, source, strategy, extend):
    if is_chief(strategy):
        return directory.claimed(workdir, recipe, source, extend)
    return contextlib.nullcontext(_OthersClaim())


@contextlib.contextmanager
def _told_why(source, recipe, strategy) -> Iterator[None]:
    """Says of an error inside TensorFlow's steps what caused it, where that can be known."""
    try:
        yield
    except tf.errors.InvalidArgumentError:
        bad_images.check(source, recipe.max_bad_fraction)  # raises if bad images were the cause
        raise
    except _GONE as error:
        if has_workers(strategy):
            raise WorkerLost(
                f"Another worker is gone ({first_line(error)}): start all of them "
                "again with the same commands; they go on from the newest "
                "checkpoint."
            ) from error
        raise


def _describe(recipe, trainer):
    """Says what was chosen and computed: network, learning rate, steps, memory, replicas."""
    variant = recipe.resolved_variant()
    if recipe.phi is not None:
        scaling = variants.CompoundScaling(recipe.alpha, recipe.beta, recipe.gamma)
        log.info(
            f"Compound scaling: phi {recipe.phi:g}, alpha * beta^2 * gamma^2 = "
            f"{scaling.cost_per_phi:.3f} times the multiply-adds per unit of phi"
        )
    parameters = variants.cost(variant, num_classes=len(trainer.source.class_names)).params
    log.info(
        f"{variants.model_name(variant)}: {parameters:,} parameters, "
        f"input {trainer.size} x {trainer.size}; {recipe.optimizer}, "
        f"learning rate {recipe.base_learning_rate} x {recipe.batch_size} / 256 = "
        f"{recipe.learning_rate():.4g}; {trainer.total_steps:,} steps of "
        f"{recipe.batch_size} images = {recipe.epochs} epochs"
    )
    log.info(described(trainer.models["raw"]))
    balance.tell(recipe, trainer.source)
    _describe_stages(trainer)
    held = batches.memory(trainer.source, trainer.stages[-1].image_size, recipe.batch_size)
    log.info(f"The input pipeline holds up to about {held / 2**20:,.0f} MiB, with one host")
    if trainer.replicas > 1:
        log.info(
            f"{trainer.replicas} replicas of {trainer.per_replica} images; batch statistics over "
            f"groups of {trainer.sync_replicas} replica(s) (bn_sync {recipe.bn_sync})"
        )


def _describe_stages(trainer):
    """Says of which size the training images are, unless it is that of the held-out ones."""
    sizes = [stage.image_size for stage in trainer.stages]
    if len(sizes) > 1:
        log.info(
            f"Progressive learning in {len(sizes)} stages: training images of "
            f"{', '.join(map(str, sizes))} pixels, held-out ones of {trainer.size}"
        )
    elif sizes != [trainer.size]:
        log.info(f"Training images have {sizes[0]} x {sizes[0]} pixels")
