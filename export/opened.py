"""What is exported: a trained run or a .keras file, with its model, class names and images."""

import argparse
import dataclasses
import functools
import json
import os
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from effnet_tf.errors import InputError, first_line
from effnet_tf.inference.options import IMAGENET as IMAGENET

if TYPE_CHECKING:
    import keras

    from effnet_tf.export import About
    from effnet_tf.recipes import Recipe

CROP_PADDING = 32  # main.py's; of a .keras file whose crop nobody said


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory of train_tpu.py.

    Attributes:
        workdir: the directory.
        recipe: its `Recipe`, with --data_dir instead of its own if that was given.
        class_names: in the order of the labels.
        checkpoint: "best", "last", or None: as the recipe keeps them.
    """

    workdir: str
    recipe: "Recipe"
    class_names: tuple[str, ...]
    checkpoint: str | None = None

    @property
    def data_dir(self) -> str | None:
        """Where TFDS data sets lie."""
        return self.recipe.data_dir

    def load_model(self) -> "keras.Model":
        """Returns the classifier with averaged weights, giving probabilities."""
        from effnet_tf.models import trained

        return trained.load_run(self.workdir, self.checkpoint)

    def about(self, model: "keras.Model") -> "About":
        """Returns the `About` of its classifier."""
        from effnet_tf import export
        from effnet_tf.data import crops

        size = self.recipe.resolved_variant().resolution
        return export.describe(
            model,
            class_names=self.class_names,
            workdir=self.workdir,
            crop_padding=crops.padding_of_recipe(self.recipe, size),
            crop_kind=crops.kind_of_recipe(self.recipe),
            exif_rotation=self.recipe.exif_rotation,
            scaled_decode=self.recipe.scaled_decode,
            recipe=json.loads(self.recipe.to_json()),
            labels=self.recipe.labels,
            thresholds=tuple(getattr(model, "thresholds", None) or ()),
        )

    def images(self, most: int, training: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Returns ((N, S, S, 3) uint8 images, (N,) labels), N <= most, without augmentation.

        Held-out ones, or of training. Spread evenly, since images may come in the order of
        their classes. Labels are (N, classes) bool where an image may have several names.
        """
        from effnet_tf import data
        from effnet_tf.data import crops

        source = self._source()
        records = source.train if training else source.held_out
        numbers = spread(records.count, most)
        some = dataclasses.replace(source, held_out=data.Chosen(records, numbers))
        size = self.recipe.resolved_variant().resolution
        batch = next(iter(data.evaluation(some, self.recipe, size, len(numbers), 1)))
        good = batch["labels"].numpy() >= 0
        for entry in source.bad.entries:
            print(f"Left out {entry['key']}: {entry['reason']}")
        labels = batch["labels"].numpy()[good]
        if source.label_sets is not None:
            labels = source.label_sets[labels]
        return crops.to_bytes(batch["images"]).numpy()[good], labels

    def _source(self):
        """Returns its data, which may lie elsewhere by now, and must have its classes."""
        place = self._place()
        try:
            source = _opened(self.recipe)
        except InputError as error:
            raise InputError(
                f"The images of the run '{self.workdir}' cannot be opened: {error} "
                f"({place}; use --data_dir to say where they are now.)"
            ) from error
        if tuple(source.class_names) != tuple(self.class_names):
            raise InputError(
                f"The run '{self.workdir}' was trained on the classes {_some(self.class_names)}; "
                f"the images have {_some(source.class_names)} ({place}). Use --data_dir to name "
                "the folder of its own images."
            )
        return source

    def _place(self):
        place = f"data_dir is '{self.data_dir}'"
        if self.data_dir and not os.path.isabs(self.data_dir) and "://" not in self.data_dir:
            place += f", sought in '{os.getcwd()}'"
        return place


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` whole numbers below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


@functools.cache  # opened once, for calibration and for verification
def _opened(recipe):
    from effnet_tf import data

    return data.open_source(recipe, for_training=False)


def _some(names):
    shown = list(names[:5])
    if len(names) > 5:
        shown.append("...")
    return f"{', '.join(shown)} ({len(names)})"


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

    def load_model(self) -> "keras.Model":
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

    def about(self, model: "keras.Model") -> "About":
        """Returns its `About`; without --crop, the crop is that of the original code."""
        from effnet_tf import class_names, export

        names = class_names.fitting(self.class_names, model.outputs[0].shape[-1])
        about = export.describe(model, class_names=tuple(names))
        if self.crop is not None:  # a central square
            about = dataclasses.replace(about, crop_kind="v1")
        padding = self._padding(about.image_size, about.crop_kind)
        return dataclasses.replace(about, crop_padding=padding)

    def _padding(self, size, kind):
        """Returns the padding of the central crop in pixels; tells a default."""
        from effnet_tf.data import crops

        if self.crop is None:
            if size:
                print(_default_told(crops.told(size, CROP_PADDING, kind)))
            return CROP_PADDING
        if isinstance(self.crop, int):
            return self.crop
        if not size:
            raise InputError(
                f"--crop {self.crop} is a fraction of an image size, and this model "
                "has none: give pixels."
            )
        return crops.padding_of(self.crop, size)

    def images(self, most: int, training: bool = False) -> NoReturn:
        """There are none of its own."""
        raise InputError(
            f"'{self.path}' is not a run and has no images of its own: give a folder "
            "or a TFDS split."
        )


def _default_told(part):
    """Says which part of an image a network will see, as nobody said one."""
    if "squeezed" in part:
        return f"It sees {part}, as the original code does it (--crop says otherwise)."
    return (
        f"--crop {CROP_PADDING}, the default: images are cut to {part}, as the original code does "
        "it. If this network was trained on whole images, give --crop 0."
    )


def open_run(workdir: str, data_dir: str | None = None, checkpoint: str | None = None) -> Run:
    """Returns the `Run` in a directory, with its data in `data_dir` if they lie elsewhere now."""
    from effnet_tf.runs import texts

    recipe, class_names = texts.read_run(workdir)
    if data_dir:
        recipe = dataclasses.replace(recipe, data_dir=data_dir)
    return Run(workdir, recipe, class_names, checkpoint)


def open_model(options: argparse.Namespace) -> Run | KerasFile:
    """Returns what --workdir or --model names: a `Run` or a `KerasFile`."""
    if bool(options.workdir) == bool(options.model):
        raise InputError("Give either --workdir, a run directory, or --model, a .keras file.")
    if options.workdir:
        return open_run(options.workdir, options.data_dir, options.checkpoint)
    return KerasFile(options.model, read_labels(options.labels), options.data_dir, options.crop)


def read_labels(path: str | None) -> tuple[str, ...]:
    """Returns the class names that --labels means: in a file, or of `IMAGENET`; () without it."""
    from effnet_tf.inference import unsaid

    return unsaid.read_labels(path)
