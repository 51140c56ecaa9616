"""What would a run do and cost, before it is given a TPU?

`dry_run` prints the size of the real run, then takes the complete path on this machine
with few and small images and a network of two blocks: data, several virtual devices, two
steps, evaluation, checkpoint, resume, export. It tries the path, not the network, which
eight replicas would compile for minutes.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator

import keras
import tensorflow as tf

from effnet_tf import data, export, extras, optim, train, variants
from effnet_tf.messages import log
from effnet_tf.models import trained
from effnet_tf.models.build import model_fn
from effnet_tf.recipes import Recipe, stages
from effnet_tf.runs import checkpoints
from effnet_tf.train.strategy import choose_strategy
from effnet_tf.variants import cost
from effnet_tf.weights import loading

DEVICES = 8
SIZE = 32  # pixels; the smallest the networks take
GROWN = 48  # pixels of the second stage of progressive learning
PHI = -8.0  # one block per stage, half as wide
SHRUNKEN = "dry-run"  # the variant's name while a dry run goes on
IMAGENET = 1_281_167  # training images of the data set the recipes are for

_in_progress: list[str] = []  # folders of dry runs of this process


def describe(
    recipe: Recipe, replicas: int, images: int = IMAGENET, classes: int | None = None
) -> list[str]:
    """Returns lines that say what a run costs, estimated from the variant's row.

    Args:
        recipe: a `Recipe`.
        replicas: devices that share a batch.
        images: training images of the data set.
        classes: of the data set; by default those of the recipe or the variant.
    """
    # The last stage has the largest images, and takes the most memory.
    variant = dataclasses.replace(recipe.resolved_variant(), resolution=recipe.train_size())
    one = cost(variant, num_classes=classes or recipe.num_classes, remat=recipe.remat)
    share = recipe.batch_size / replicas
    state = 4 * _copies(recipe) * one.params
    # Forward activations stay for the backward pass, as much again is in flight.
    activations = (
        one.activation_bytes / 4 * _bytes_each(recipe) * share / recipe.gradient_accumulation
    )
    steps = images / recipe.batch_size
    return [
        f"The real run: {variants.model_name(variant)} at {variant.resolution} pixels, "
        f"{one.params:,} parameters ({one.trainable_params:,} trainable)",
        f"  multiply-adds per step: {3 * one.multiply_adds * recipe.batch_size:.3g} "
        f"(forward {one.multiply_adds:,} per image, backward twice that)",
        f"  device memory per replica, estimated: {state / 2**20:,.0f} MiB of "
        f"state, {activations / 2**20:,.0f} MiB or more of activations at {share:g} images "
        "(tools/tpu_check.py asks the TPU compiler)",
        f"  {images:,} images per epoch, {steps:,.1f} steps of {recipe.batch_size:,}, "
        f"{round(steps * recipe.epochs):,} steps in {recipe.epochs} epochs",
        f"  optimizer {recipe.optimizer}, learning rate {recipe.base_learning_rate} x "
        f"{recipe.batch_size} / 256 = {recipe.learning_rate():.4g}; augmentation {recipe.augment}",
        *_about_stages(recipe, steps),
    ]


def _about_stages(recipe, steps_per_epoch):
    """Says what growing images save; nothing where they do not grow."""
    found = stages.of_run(recipe, steps_per_epoch)
    if len(found) == 1:
        return []
    last, total = found[-1].image_size, found[-1].end
    share = stages.work_left(found, 0, last) / max(total, 1)
    sizes = ", ".join(str(stage.image_size) for stage in found)
    return [
        f"  {len(found)} stages, of {sizes} pixels: {share:.0%} of the multiply-adds of as many "
        f"steps at {last}"
    ]


def _copies(recipe):
    """Numbers that a replica keeps per parameter: weight, gradient, average, optimiser."""
    copies = 2 + _slots(recipe)
    if recipe.ema_decay:
        copies += 1
    return copies


def _slots(recipe):
    """How many variables the recipe's optimiser keeps for each one that it trains."""
    optimizer = optim.optimizer(recipe, steps_per_epoch=1.0)
    before = len(optimizer.variables)
    optimizer.build([keras.Variable(0.0, name="one")])
    return len(optimizer.variables) - before


def _bytes_each(recipe):
    """Bytes of an activation; "auto" is taken for bfloat16, as on a TPU."""
    if recipe.precision == "float32":
        return 4
    return 2


def dry_run(
    recipe: Recipe, strategy: tf.distribute.Strategy, replicas: int = DEVICES
) -> dict[str, float]:
    """Says what a run would cost, and runs the complete path twice around a resume.

    Args:
        recipe: a `Recipe`.
        strategy: a tf.distribute strategy of this machine.
        replicas: of the real run, for the figures.

    Returns:
        The metrics of the small run.

    Raises:
        InputError: the recipe or its data set cannot be used.
    """
    extras.require_for_training(recipe)
    images, classes = IMAGENET, None
    if recipe.dataset != "imagenet2012":
        source = data.open_source(recipe)
        images, classes = source.num_train, len(source.class_names)
    log.info("\n".join(describe(recipe, replicas, images, classes)))
    small = _small(recipe, classes, strategy.num_replicas_in_sync)
    with _shrunken(recipe.variant) as blocks, _folder() as folder:
        log.info(
            f"\nNow the whole path on this machine, with {SIZE}-pixel images of noise, a batch of "
            f"{small.batch_size} and a network of {blocks} block(s); everything "
            "else is as in the real run."
        )
        metrics = _take_path(small, strategy, folder)
    log.info(
        "\nThe dry run is complete: data, replicas, steps, evaluation, checkpoint, resume and "
        "export work."
    )
    return metrics


def _small(recipe, classes, replicas):
    """Returns the recipe of two steps; what decides over the path is as in the real one."""
    return dataclasses.replace(
        recipe,
        variant=SHRUNKEN,
        dataset="synthetic",
        data_dir=None,
        phi=PHI,
        image_size=SIZE,
        init_weights=None,
        freeze_until=None,
        batch_norm="trainable",
        **_small_stages(recipe),
        batch_size=2 * replicas,
        gradient_accumulation=1,
        eval_batch_size=None,
        epochs=1,
        steps_per_loop=1,
        checkpoint_every=1,
        num_classes=recipe.num_classes or classes or 10,
    )


def _small_stages(recipe):
    """The two steps of a recipe whose images grow are of two stages."""
    if recipe.progressive or recipe.start_image_size is not None:
        return {"train_image_size": GROWN, "start_image_size": SIZE, "size_stages": 2}
    return {"train_image_size": None}


@contextlib.contextmanager
def _shrunken(name) -> Iterator[int]:
    """Makes a variant known for a while that has a block of the first and of the last stage.

    They are of both kinds where a family has two (EdgeTPU's first stages are fused).

    Yields:
        How many blocks it has.
    """
    row = variants.find_variant(name)
    stages = row.stages[:1]
    if len(row.stages) > 1:
        stages += row.stages[-1:]
    stages = tuple(dataclasses.replace(stage, repeats=1) for stage in stages)
    variants.VARIANTS[SHRUNKEN] = dataclasses.replace(row, name=SHRUNKEN, stages=stages)
    try:
        yield len(stages)
    finally:
        del variants.VARIANTS[SHRUNKEN]


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="effnet-dry-run-") as folder:
        _in_progress.append(folder)
        yield folder


def last_words() -> str:
    """Returns what an interruption leaves: nothing, once the folders in progress are removed.

    For `programs.on_interruption`: Ctrl-C may have to end the process inside of TensorFlow.
    """
    for folder in _in_progress:
        shutil.rmtree(folder, ignore_errors=True)
    return "a dry run keeps nothing"


def _take_path(recipe, strategy, folder):
    """Trains, resumes from a step before the end, and exports; returns the metrics."""
    workdir = os.path.join(folder, "run")
    train.run(recipe, workdir, strategy)
    newest = checkpoints.newest(os.path.join(workdir, "checkpoints"))
    tf.io.gfile.rmtree(os.path.dirname(newest))  # as if it had been killed before
    log.info("\nResuming from the step before, on one device:")
    metrics = train.run(recipe, workdir, choose_strategy("cpu"))
    _export(recipe, workdir, folder)
    return metrics


def _export(recipe, workdir, folder):
    """Exports the small run, and compares it with the Keras model."""
    log.info("\nExporting:")
    source = data.open_source(recipe)
    model = model_fn(
        recipe.resolved_variant(),
        len(source.class_names),
        classifier_activation=trained.ACTIVATIONS[recipe.labels],
    )
    loading.load_weights(model, workdir)
    images = next(iter(data.evaluation(source, recipe, SIZE, 8, 1)))["images"].numpy()
    for write, name in ((export.to_saved_model, "saved_model"), (export.to_tflite, "a.tflite")):
        log.info(str(write(model, os.path.join(folder, name), verify_with=images)))
