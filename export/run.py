"""A trained run, opened for export: its recipe, class names, model and held-out images."""

import argparse
import dataclasses
import functools
import json
import os

from effnet_tf.errors import InputError, first_line

from . import images

CROP_PADDING = 32  # main.py's; of a .keras file whose crop nobody said


def add_options(parser, required=True):
    """Adds the options that name a run and the place of its data."""
    parser.add_argument("--workdir", required=required, help="directory of a training run")
    parser.add_argument("--data_dir", help="where the run's data set lies now, if elsewhere")


def count(text):
    """The argparse type of a number of images: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of images (1 or more)")
    return int(text)


def crop(text):
    """The argparse type of --crop: pixels, an int, or a fraction of the short side, a float."""
    try:
        value = int(text) if text.isdigit() else float(text)
    except ValueError:
        value = None
    if value is None or (isinstance(value, float) and not 0.01 <= value <= 1):
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a crop: give the padding in whole pixels (0: the whole image), or "
            "the fraction of the short side, such as 0.875 or 1.0"
        )
    return value


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
        from effnet_tf.models import build
        from effnet_tf.weights import loading

        classifier = build.model_fn(self.recipe.resolved_variant(), len(self.class_names))
        report = loading.load_weights(classifier, self.workdir)
        if report.exact:  # else it has been printed
            print(report)
        return classifier

    def about(self, model):
        """Returns the `About` of its classifier."""
        from effnet_tf import export
        from effnet_tf.data import crops

        size = self.recipe.resolved_variant().resolution
        return export.describe(
            model,
            class_names=self.class_names,
            workdir=self.workdir,
            crop_padding=crops.padding_of_recipe(self.recipe, size),
            exif_rotation=self.recipe.exif_rotation,
            scaled_decode=self.recipe.scaled_decode,
            recipe=json.loads(self.recipe.to_json()),
        )

    def images(self, most, training=False):
        """Returns ((N, S, S, 3) uint8 images, (N,) labels), N <= most, without augmentation.

        Held-out ones, or of training. Spread evenly, since images may come in the order of
        their classes.
        """
        from effnet_tf import data
        from effnet_tf.data import crops

        source = self._source()
        records = source.train if training else source.held_out
        numbers = images.spread(records.count, most)
        spread = dataclasses.replace(source, held_out=data.Chosen(records, numbers))
        size = self.recipe.resolved_variant().resolution
        batch = next(iter(data.evaluation(spread, self.recipe, size, len(numbers), 1)))
        good = batch["labels"].numpy() >= 0
        for entry in source.bad.entries:
            print(f"Left out {entry['key']}: {entry['reason']}")
        return crops.to_bytes(batch["images"]).numpy()[good], batch["labels"].numpy()[good]

    def _source(self):
        """Returns its data, which may lie elsewhere by now, and must have its classes."""
        place = f"data_dir is '{self.data_dir}'"
        if self.data_dir and not os.path.isabs(self.data_dir) and "://" not in self.data_dir:
            place += f", sought in '{os.getcwd()}'"
        try:
            source = _opened(self.recipe)
        except InputError as error:
            raise InputError(
                f"The images of the run '{self.workdir}' cannot be opened: {error} "
                f"({place}; say with --data_dir where they lie now.)"
            ) from error
        if tuple(source.class_names) != tuple(self.class_names):
            raise InputError(
                f"The run '{self.workdir}' has learnt the classes {_some(self.class_names)}; the "
                f"images have {_some(source.class_names)} ({place}). Say with --data_dir where "
                "its own lie."
            )
        return source


@functools.cache  # opened once, for calibration and for verification
def _opened(recipe):
    from effnet_tf import data

    return data.open_source(recipe, for_training=False)


def _some(names):
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''} ({len(names)})"


@dataclasses.dataclass(frozen=True)
class KerasFile:
    """A `.keras` file, of this package or of a program that uses it.

    Attributes:
        path: of the file.
        class_names: in the order of the scores; empty if nobody said.
        data_dir: where TFDS data sets lie, or None.
        crop: padding in pixels, or fraction of the short side, of the central crop that the
            network is to see; None: nobody said.
    """

    path: str
    class_names: tuple[str, ...]
    data_dir: str | None
    crop: int | float | None = None

    def load_model(self):
        """Returns the model; nothing in the file can run code."""
        import effnet_tf

        if not os.path.isfile(self.path):
            raise InputError(f"There is no file '{self.path}'.")
        try:
            return effnet_tf.load_model(self.path, compile=False)
        except InputError:  # it says all
            raise
        except Exception as error:  # Keras has a kind for each thing a file can lack
            raise InputError(
                f"'{self.path}' cannot be loaded as a .keras model: {first_line(error)}."
            ) from error

    def about(self, model):
        """Returns its `About`; without --crop, the crop is that of the original code."""
        from effnet_tf import export
        from effnet_tf.data import crops

        about = export.describe(model, class_names=self.class_names)
        size, padding = about.image_size, self.crop
        if padding is None:
            padding = CROP_PADDING
            if size:
                print(
                    f"--crop {padding}, the default: images are cut to the middle "
                    f"{size / (size + padding):.0%} of their short side, as the original code "
                    "does it. Was this network trained on whole images, give --crop 0."
                )
        elif isinstance(padding, float):
            if not size:
                raise InputError(
                    f"--crop {padding} is a fraction of an image size, and this model "
                    "has none: give pixels."
                )
            padding = crops.padding_of(padding, size)
        return dataclasses.replace(about, crop_padding=padding)

    def images(self, most, training=False):
        """There are none of its own."""
        raise InputError(
            f"'{self.path}' is not a run and has no images of its own: give a folder "
            "or a TFDS split."
        )


def open_run(options):
    """Returns the `Run` that --workdir and --data_dir name."""
    from effnet_tf.runs import texts

    recipe, class_names = texts.read_run(options.workdir)
    if options.data_dir:
        recipe = dataclasses.replace(recipe, data_dir=options.data_dir)
    return Run(options.workdir, recipe, class_names)


def open_model(options):
    """Returns what --workdir or --model names: a `Run` or a `KerasFile`."""
    if bool(options.workdir) == bool(options.model):
        raise InputError("Give either --workdir, a run directory, or --model, a .keras file.")
    if options.workdir:
        return open_run(options)
    return KerasFile(options.model, _labels(options.labels), options.data_dir, options.crop)


def _labels(path):
    from effnet_tf import class_names

    return () if path is None else class_names.read(path)
