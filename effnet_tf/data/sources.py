"""Which data sets are there, and how is each opened?

Six kinds with one face, `Source`: scikit-learn's handwritten digits, a folder with one
folder per class, a table of paths and labels, TFRecord files as those of the original code,
any TFDS classification data set on disk, and coloured noise.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from effnet_tf import extras, storage
from effnet_tf.data import splits, tables
from effnet_tf.data.folders import open_folder
from effnet_tf.data.record_sets import open_tfds, open_tfrecord
from effnet_tf.data.records import Listed
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError, printable
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe

__all__ = ["Source", "open_source", "synthetic"]


def open_source(recipe: Recipe, *, for_training: bool = True) -> Source:
    """Opens the data set of a `Recipe`, and says what it found.

    Args:
        recipe: a `Recipe`.
        for_training: whether it must have images enough for a batch.

    Returns:
        A `Source`.

    Raises:
        InputError: unknown or missing data set, fewer than two classes, other than
            `num_classes` classes, or more images in a batch than in all.
    """
    on_disk = {"folder": open_folder, "table": open_table, "tfrecord": open_tfrecord}
    made = {"digits": _digits, "synthetic": synthetic}
    if recipe.dataset in made:
        source = made[recipe.dataset](recipe)
    else:
        _check_place(recipe)
        source = on_disk.get(recipe.dataset, open_tfds)(recipe)
    source = of_kind(source, recipe.labels)
    _check_classes(source, recipe)
    for fault in source.bad.entries:
        log.info(f"{fault['key']}: {fault['reason']}; about {fault['records']:,} records are lost.")
    _check_counts(source, recipe, for_training)
    log.info(
        f"{source.name}: {source.num_train:,} images to train on, {source.num_eval:,} held "
        f"out, {len(source.class_names)} classes"
    )
    _say_what_is_empty(source)
    return source


def of_kind(source: Source, labels: str) -> Source:
    """Returns a source whose images may have several names, if `labels` is "multi".

    Of a data set that gives each image one name, each has that one.
    """
    if labels == "single" or source.label_sets is not None:
        return source
    log.info("One name per image, in a network that can give several (--labels multi).")
    return dataclasses.replace(source, label_sets=np.eye(len(source.class_names), dtype=bool))


def _check_classes(source, recipe):
    if len(source.class_names) < 2:
        raise InputError(
            f"{source.name} has only the class '{source.class_names[0]}'; a "
            "classifier needs at least two. Is data_dir the folder that holds "
            "one folder per class?"
        )
    if recipe.num_classes not in (None, len(source.class_names)):
        names = printable(", ".join(source.class_names[:20]))
        raise InputError(
            f"num_classes is {recipe.num_classes}, but {source.name} has "
            f"{len(source.class_names)}: {names}."
        )


def _check_counts(source, recipe, for_training):
    if not source.num_train or not source.num_eval:
        raise InputError(
            f"{source.name} has {source.num_train} images to train and "
            f"{source.num_eval} to evaluate on; both need at least one."
        )
    if for_training and recipe.batch_size > source.num_train:
        raise InputError(
            f"batch_size is {recipe.batch_size}, but {source.name} has only "
            f"{source.num_train} training images: use a smaller --batch_size."
        )


def _say_what_is_empty(source):
    """Names classes without images, where that is known without reading record files."""
    for what, records in (("to train on", source.train), ("held out", source.held_out)):
        if isinstance(records, Listed):
            there = set(records.labels.tolist())
            if source.label_sets is not None:
                there = set(np.flatnonzero(source.label_sets[sorted(there)].any(0)).tolist())
            empty = [name for label, name in enumerate(source.class_names) if label not in there]
            if empty:
                log.info(
                    f"No images {what} of {len(empty):,} class(es): "
                    f"{printable(', '.join(empty[:10]))}"
                )


# What --data_dir is, of the data sets that lie nowhere else.
_PLACES = {
    "folder": "the folder with one folder of images per class",
    "table": "the .csv or .jsonl file of paths and labels",
    "tfrecord": "the folder of the TFRecord files",
}


def _check_place(recipe):
    place = recipe.data_dir
    if not place and recipe.dataset in _PLACES:
        raise InputError(
            f"The data set '{recipe.dataset}' needs its place: give --data_dir, "
            f"{_PLACES[recipe.dataset]}."
        )
    # On this machine our own readers take every name.
    if place and (storage.is_remote(place) or recipe.dataset not in ("folder", "table")):
        storage.check_place(place, "--data_dir")


# --- in memory -------------------------------------------------------------------------------


def _digits(recipe):
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels of 17 grey levels."""
    datasets = extras.load("sklearn.datasets", "The data set 'digits'")
    digits = datasets.load_digits()
    grey = np.round(digits.images * (255 / 16)).astype("uint8")
    rows = [
        (tf.io.encode_png(image[..., np.newaxis]).numpy(), label)
        for image, label in zip(grey, digits.target)
    ]
    keys = map(str, range(len(rows)))
    train, held_out = splits.divide(rows, keys, digits.target, recipe.holdout)
    return Source(
        "Handwritten digits",
        tuple(str(name) for name in digits.target_names),
        Listed(train),
        Listed(held_out),
    )


def synthetic(recipe: Recipe, num_classes: int = 10) -> Source:
    """Coloured noise, one colour per class: two batches, for trying a run out without data.

    Args:
        recipe: a `Recipe`; its seed, batch size and number of classes count.
        num_classes: where the recipe names none.
    """
    classes = recipe.num_classes or num_classes
    random = np.random.default_rng(recipe.seed)
    colours = random.integers(0, 256, (classes, 3))

    def image(label):
        noise = random.integers(-60, 61, (64, 64, 3))
        return tf.io.encode_jpeg(np.clip(colours[label] + noise, 0, 255).astype("uint8")).numpy()

    rows = [
        (image(number % classes), number % classes) for number in range(2 * recipe.batch_size + 40)
    ]
    return Source(
        "Synthetic images",
        tuple(f"colour {number}" for number in range(classes)),
        Listed(rows[40:]),
        Listed(rows[:40]),
    )


# --- tables -----------------------------------------------------------------------------------


def open_table(recipe: Recipe) -> Source:
    """Opens `data_dir` of a `Recipe`, a CSV or JSONL file of paths and labels."""
    where, several = f"Table '{recipe.data_dir}'", recipe.labels == "multi"
    table = tables.read(recipe.data_dir or "", recipe.num_classes, several)
    train_name, eval_name = _parts(table, recipe, where)
    train = [row for row in table.rows if row.split == train_name]
    if eval_name:
        held_out = [row for row in table.rows if row.split == eval_name]
        how = f"splits {train_name} and {eval_name}"
    else:
        train, held_out = _divided(train, table.label_sets, recipe.holdout)
        how = f"{100 * recipe.holdout:g}% of each class held out by a hash of the path"
        if train_name:
            how = f"split {train_name}, {how}"
    others = len(table.rows) - len(train) - len(held_out)
    if others:
        log.info(f"Ignored {others} row(s) of '{recipe.data_dir}' that are of other splits.")
    return Source(
        f"{where} ({how})",
        table.class_names,
        _files(train),
        _files(held_out),
        label_sets=table.label_sets,
    )


def _divided(rows, label_sets, holdout):
    """Returns (rows to train on, held-out rows); one of several names counts as of its rarest."""
    keys, labels = [row.name for row in rows], [row.label for row in rows]
    if label_sets is not None:
        labels = splits.rarest(np.array(labels, int), label_sets)
    return splits.divide(rows, keys, labels, holdout)


def _parts(table, recipe, where):
    """Returns the splits to train and to evaluate on; None, None where there are none."""
    parts = sorted({row.split for row in table.rows} - {None})
    train_name, eval_name = splits.choose(parts, recipe, where)
    if parts or train_name or eval_name:
        train_name = train_name or "train"
    for name in (train_name, eval_name):
        if name and name not in parts:
            raise InputError(
                f"'{recipe.data_dir}' has no rows of the split '{name}'; it has "
                f"{', '.join(parts) or 'no splits'}: see --train_split and --eval_split."
            )
    return train_name, eval_name


def _files(rows):
    return Listed([(row.path, row.label) for row in rows], paths=True)
