"""A trained run, opened for export: its recipe, class names, model and held-out images."""

import argparse
import dataclasses
import json
import os

import numpy as np


def add_options(parser, required=True):
    """Adds the options that name a run and the place of its data."""
    parser.add_argument("--workdir", required=required, help="run directory of train_tpu.py")
    parser.add_argument("--data_dir", help="where the run's data set lies now, if elsewhere")


def count(text):
    """The argparse type of a number of images: a whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of images (1 or more)")
    return int(text)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory of train_tpu.py.

    Attributes:
        workdir: the directory.
        recipe: its `Recipe`, with --data_dir instead of its own if that was given.
        class_names: in the order of the labels.
    """

    workdir: str
    recipe: object
    class_names: tuple[str, ...]

    def load_model(self):
        """Returns the classifier with averaged weights, giving probabilities."""
        from effnet_tf import model, weights
        classifier = model.model_fn(self.recipe.resolved_variant(), len(self.class_names))
        report = weights.load_weights(classifier, self.workdir)
        if report.exact:  # else it has been printed
            print(report)
        return classifier

    def crop_padding(self):
        """Returns the padding of the central crop at the network's resolution."""
        from effnet_tf.data import batches
        return batches.padding(self.recipe, self.recipe.resolved_variant().resolution)

    def held_out(self, most):
        """Returns ((N, S, S, 3) uint8 images, (N,) labels), N <= most, of the held-out.

        Spread evenly, since images may come in the order of their classes.
        """
        from effnet_tf import augment, data
        source = data.open_source(self.recipe, for_training=False)
        numbers = np.linspace(0, source.num_eval - 1, min(most, source.num_eval)).astype(np.int64)
        spread = dataclasses.replace(source, held_out=data.Chosen(source.held_out, numbers))
        size = self.recipe.resolved_variant().resolution
        batch = next(iter(data.evaluation(spread, self.recipe, size, len(numbers), 1)))
        good = batch["labels"].numpy() >= 0
        for entry in source.bad.entries:
            print(f"Left out {entry['key']}: {entry['reason']}")
        return augment.to_bytes(batch["images"]).numpy()[good], batch["labels"].numpy()[good]


def open_run(options):
    """Returns the `Run` that --workdir and --data_dir name."""
    from effnet_tf import rundir
    recipe, class_names = rundir.read_run(options.workdir)
    if options.data_dir:
        recipe = dataclasses.replace(recipe, data_dir=options.data_dir)
    return Run(options.workdir, recipe, class_names)


def from_files(paths, about):
    """Returns (N, S, S, 3) uint8 of image files, made as a report says that evaluation did."""
    import tensorflow as tf

    from effnet_tf import augment
    from effnet_tf.config import InputError
    from effnet_tf.data import bad
    images = []
    for path in paths:
        if not os.path.isfile(path):
            raise InputError(f"There is no image file '{path}'.")
        encoded = tf.io.read_file(path)
        fault = bad.fault(encoded.numpy())
        if fault:
            raise InputError(f"'{path}' cannot be used: {fault}.")
        images.append(augment.to_bytes(augment.evaluation_image(
            encoded, about["image_size"], about["eval_crop_padding"],
            exif_rotation=about["exif_rotation"], scaled_decode=about["scaled_decode"])))
    return np.stack(images)


def report_path(artefact):
    """Returns where the report of an exported file lies: beside it."""
    return f"{artefact.rstrip(os.sep)}.report.json"


def read_report(artefact):
    """Returns the report of an exported file: image size, crop, class names, check."""
    from effnet_tf.config import InputError
    path = report_path(artefact)
    if not os.path.exists(artefact):
        raise InputError(f"There is no file '{artefact}'.")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read ({error}): it was written beside '{artefact}' "
                         "and holds its class names and image size.") from error
