"""A trained run, opened for export: its model, class names and held-out images."""

import dataclasses
import json
import os

import numpy as np


def add_options(parser, required=True):
    """Adds the options that name a run and the images to check with."""
    parser.add_argument("--workdir", required=required, help="run directory of train_tpu.py")
    parser.add_argument("--data_dir", help="where the run's data set lies now, if elsewhere")


def read(options):
    """Returns the (recipe, class names) of the run; --data_dir replaces the recipe's."""
    from effnet_tf import train
    recipe, class_names = train.read_run(options.workdir)
    if options.data_dir:
        recipe = dataclasses.replace(recipe, data_dir=options.data_dir)
    return recipe, class_names


def load_model(options):
    """Returns the run's classifier with averaged weights, giving probabilities."""
    from effnet_tf import model, weights
    recipe, class_names = read(options)
    classifier = model.model_fn(recipe.resolved_variant(), len(class_names))
    print(weights.load_weights(classifier, options.workdir))
    return classifier


def held_out(options, count):
    """Returns ((N, S, S, 3) uint8 images, (N,) labels): the first of the run's held-out."""
    from effnet_tf import data
    recipe, _ = read(options)
    source = data.open_source(recipe)
    count = min(count, source.num_eval)
    size = recipe.resolved_variant().resolution
    images, labels, _ = next(iter(data.evaluation(source, recipe, size, count, 1)))
    return images.numpy(), labels.numpy()


def from_files(paths, size, crop_padding):
    """Returns (N, size, size, 3) uint8 of image files, cropped as evaluation does."""
    import tensorflow as tf

    from effnet_tf import augment
    from effnet_tf.config import InputError
    images = []
    for path in paths:
        try:
            images.append(augment.evaluation_image(tf.io.read_file(path), size, crop_padding))
        except tf.errors.OpError as error:
            raise InputError(f"'{path}' cannot be read as an image (JPEG, PNG, BMP or GIF): "
                             f"{error.message.splitlines()[0]}") from error
    return np.stack(images)


def report_path(artefact):
    """Returns where the report of an exported file lies: beside it."""
    stem = artefact.rstrip(os.sep)
    return f"{stem.removesuffix('.tflite')}.report.json"


def read_report(artefact):
    """Returns the report of an exported file: image size, crop, class names, check."""
    from effnet_tf.config import InputError
    path = report_path(artefact)
    if not os.path.exists(path):
        raise InputError(f"'{path}' is missing: it was written beside '{artefact}' and holds "
                         "its class names and image size.")
    with open(path, encoding="utf-8") as file:
        return json.load(file)
