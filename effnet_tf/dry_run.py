"""What would a run do and cost, before it is given a TPU?

`dry_run` prints the size of the real run, then takes the complete path on this machine
with few and small images and a shrunken network: data, several virtual devices, two
steps, evaluation, checkpoint, resume, export.
"""

import dataclasses
import os
import tempfile

import tensorflow as tf

from effnet_tf import data, export, extras, train
from effnet_tf.models.build import model_fn
from effnet_tf.runs import checkpoints
from effnet_tf.train.strategy import choose_strategy
from effnet_tf.variants.counting import cost
from effnet_tf.weights import loading

DEVICES = 8
SIZE = 32  # pixels; the smallest the networks take
PHI = -8.0  # one block per stage: eight replicas of a whole B0 take minutes to compile
IMAGENET = 1_281_167  # training images of the data set the recipes are for

# Bytes per parameter that a replica keeps: weights, gradient, average, optimiser.
_SLOTS = {"rmsprop": 2, "sgd": 1, "adamw": 2, "lars": 1}


def describe(recipe, replicas, images=IMAGENET, classes=None):
    """Returns lines that say what a run costs, estimated from the variant's table.

    Args:
        recipe: a `Recipe`.
        replicas: devices that share a batch.
        images: training images of the data set.
        classes: of the data set; by default those of the recipe or the variant.
    """
    variant = recipe.resolved_variant()
    one = cost(variant, num_classes=classes or recipe.num_classes)
    share = recipe.batch_size / replicas
    bytes_each = 4 if recipe.precision == "float32" else 2
    copies = 2 + _SLOTS[recipe.optimizer] + bool(recipe.ema_decay)
    # Forward activations stay for the backward pass, as much again is in flight.
    activations = one.activation_bytes / 4 * bytes_each * share / recipe.gradient_accumulation
    steps = images / recipe.batch_size
    return [
        f"The real run: EfficientNet {variant.name} at {variant.resolution} pixels, "
        f"{one.params:,} parameters ({one.trainable_params:,} trainable)",
        f"  multiply-adds per step: {3 * one.multiply_adds * recipe.batch_size:.3g} "
        f"(forward {one.multiply_adds:,} per image, backward twice that)",
        f"  device memory per replica, estimated: {(copies * 4 * one.params) / 2**20:,.0f} MiB of "
        f"state, {activations / 2**20:,.0f} MiB or more of activations at {share:g} images "
        "(tools/tpu_check.py asks the TPU compiler)",
        f"  {images:,} images per epoch, {steps:,.1f} steps of {recipe.batch_size:,}, "
        f"{round(steps * recipe.epochs):,} steps in {recipe.epochs} epochs",
        f"  optimizer {recipe.optimizer}, learning rate {recipe.base_learning_rate} x "
        f"{recipe.batch_size} / 256 = {recipe.learning_rate():.4g}; augmentation {recipe.augment}",
    ]


def dry_run(recipe, strategy, replicas=DEVICES):
    """Prints `describe`, and runs the complete path twice around a resume.

    Args:
        recipe: a `Recipe`.
        strategy: a tf.distribute strategy of this machine.
        replicas: of the real run, for the figures.

    Returns:
        The metrics of the small run.
    """
    extras.require_for_training(recipe, is_new=True)
    images, classes = IMAGENET, None
    if recipe.dataset != "imagenet2012":
        source = data.open_source(recipe)
        images, classes = source.num_train, len(source.class_names)
    print("\n".join(describe(recipe, replicas, images, classes)))
    small = dataclasses.replace(
        recipe,
        dataset="synthetic",
        data_dir=None,
        phi=PHI,
        image_size=SIZE,
        init_weights=None,
        freeze_until=None,
        batch_norm="trainable",
        start_image_size=None,
        batch_size=2 * strategy.num_replicas_in_sync,
        gradient_accumulation=1,
        eval_batch_size=None,
        epochs=1,
        steps_per_loop=1,
        checkpoint_every=1,
        num_classes=recipe.num_classes or classes or 10,
    )
    print(
        f"\nNow the whole path on this machine, with {SIZE}-pixel images of noise, a batch of "
        f"{small.batch_size} and the network scaled by phi {PHI:g}; all else as it is."
    )
    with tempfile.TemporaryDirectory() as folder:
        workdir = os.path.join(folder, "run")
        metrics = train.run(small, workdir, strategy)
        newest = checkpoints.newest(os.path.join(workdir, "checkpoints"))
        tf.io.gfile.rmtree(os.path.dirname(newest))  # as if it had been killed before
        print("\nResuming from the step before, on one device:")
        metrics = train.run(small, workdir, choose_strategy("cpu"))
        _export(small, workdir, folder)
    print(
        "\nThe dry run is complete: data, replicas, steps, evaluation, checkpoint, resume and "
        "export work."
    )
    return metrics


def _export(recipe, workdir, folder):
    """Exports the small run, and compares it with the Keras model."""
    print("\nExporting:")
    source = data.open_source(recipe)
    model = model_fn(recipe.resolved_variant(), len(source.class_names))
    loading.load_weights(model, workdir)
    images = next(iter(data.evaluation(source, recipe, SIZE, 8, 1)))["images"].numpy()
    for write, name in ((export.to_saved_model, "saved_model"), (export.to_tflite, "a.tflite")):
        print(write(model, os.path.join(folder, name), verify_with=images))
