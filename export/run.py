"""A trained run, opened for export: its recipe, class names, model and held-out images."""

import argparse
import dataclasses
import functools
import json
import os

from effnet_tf.errors import InputError, first_line

from . import images


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

    @property
    def data_dir(self):
        """Where TFDS data sets lie."""
        return self.recipe.data_dir

    def load_model(self):
        """Returns the classifier with averaged weights, giving probabilities."""
        from effnet_tf import model, weights
        classifier = model.model_fn(self.recipe.resolved_variant(), len(self.class_names))
        report = weights.load_weights(classifier, self.workdir)
        if report.exact:  # else it has been printed
            print(report)
        return classifier

    def about(self, model):
        """Returns the `About` of its classifier."""
        from effnet_tf import export
        from effnet_tf.data import batches
        size = self.recipe.resolved_variant().resolution
        return export.describe(
            model, class_names=self.class_names, workdir=self.workdir,
            crop_padding=batches.padding(self.recipe, size),
            exif_rotation=self.recipe.exif_rotation, scaled_decode=self.recipe.scaled_decode,
            recipe=json.loads(self.recipe.to_json()))

    def images(self, most, training=False):
        """Returns ((N, S, S, 3) uint8 images, (N,) labels), N <= most, without augmentation.

        Held-out ones, or of training. Spread evenly, since images may come in the order of
        their classes.
        """
        from effnet_tf import augment, data
        source = _source(self.recipe)
        records = source.train if training else source.held_out
        numbers = images.spread(records.count, most)
        spread = dataclasses.replace(source, held_out=data.Chosen(records, numbers))
        size = self.recipe.resolved_variant().resolution
        batch = next(iter(data.evaluation(spread, self.recipe, size, len(numbers), 1)))
        good = batch["labels"].numpy() >= 0
        for entry in source.bad.entries:
            print(f"Left out {entry['key']}: {entry['reason']}")
        return augment.to_bytes(batch["images"]).numpy()[good], batch["labels"].numpy()[good]


@functools.cache  # opened once, for calibration and for verification
def _source(recipe):
    from effnet_tf import data
    return data.open_source(recipe, for_training=False)


@dataclasses.dataclass(frozen=True)
class KerasFile:
    """A `.keras` file, of this package or of a program that uses it.

    Attributes:
        path: of the file.
        class_names: in the order of the scores; empty if nobody said.
        data_dir: where TFDS data sets lie, or None.
    """

    path: str
    class_names: tuple[str, ...]
    data_dir: str | None

    def load_model(self):
        """Returns the model; nothing in the file can run code."""
        import effnet_tf
        if not os.path.isfile(self.path):
            raise InputError(f"There is no file '{self.path}'.")
        try:
            return effnet_tf.load_model(self.path, compile=False)
        except Exception as error:  # Keras has a kind for each thing a file can lack
            raise InputError(f"'{self.path}' cannot be loaded as a .keras model: "
                             f"{first_line(error)}.") from error

    def about(self, model):
        """Returns its `About`; the crop is that of the original code."""
        from effnet_tf import export
        return export.describe(model, class_names=self.class_names)

    def images(self, most, training=False):
        """There are none of its own."""
        raise InputError(f"'{self.path}' is no run and has no images of its own: give a folder or "
                         "a TFDS split.")


def open_run(options):
    """Returns the `Run` that --workdir and --data_dir name."""
    from effnet_tf import rundir
    recipe, class_names = rundir.read_run(options.workdir)
    if options.data_dir:
        recipe = dataclasses.replace(recipe, data_dir=options.data_dir)
    return Run(options.workdir, recipe, class_names)


def open_model(options):
    """Returns what --workdir or --model names: a `Run` or a `KerasFile`."""
    if bool(options.workdir) == bool(options.model):
        raise InputError("Give either --workdir, a run directory, or --model, a .keras file.")
    if options.workdir:
        return open_run(options)
    return KerasFile(options.model, _labels(options.labels), options.data_dir)


def _labels(path):
    if path is None:
        return ()
    try:
        with open(path, encoding="utf-8-sig") as file:
            return tuple(file.read().rstrip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The class names '{path}' cannot be read: {error}.") from error


def report_path(artefact):
    """Returns where the report of an exported file lies: beside it."""
    return f"{artefact.rstrip(os.sep)}.report.json"
