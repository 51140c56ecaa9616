"""Which images are evaluated on: a folder, a table, record files, TFDS, or a run's own?

All of them are opened by `effnet_tf.data`, as training opens them; here all their images count,
not a held-out part.
"""

import dataclasses
import re

from effnet_tf import data, storage
from effnet_tf.data import folders, record_sets, sources
from effnet_tf.errors import InputError
from effnet_tf.inference import subjects
from effnet_tf.messages import log
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import texts

KINDS = (
    "a folder with one folder of images per class (or with parts such as val/), a .csv or .jsonl "
    "table of paths and labels, a folder of TFRecord files, NAME:SPLIT of a TFDS data set, or a "
    "run directory for its held-out images"
)
_RECORDS = re.compile(r".+-\d+-of-\d+")
_TFDS = re.compile(r"([a-z]\w*(?:/[\w.-]+)*(?::\d+\.\d+\.\d+)?):([\w\[\]%:+-]+)")


def open_samples(
    where: str,
    *,
    split: str | None = None,
    data_dir: str | None = None,
    num_classes: int | None = None,
    first_label: int = 1,
    several: bool = False,
) -> data.Source:
    """Opens labelled images; all of them are the source's `held_out`.

    Args:
        where: see `KINDS`.
        split: which part of a folder, table or TFRecords; None: what there is to evaluate on, else
            all of it.
        data_dir: where TFDS data sets lie, or where the images of a run lie now.
        num_classes: confirms that so many folders, or labels, are classes.
        first_label: label of the first class in TFRecord files.
        several: whether an image may have several names, as the network gives it.

    Raises:
        InputError: there are no such images, or they cannot be opened.
    """
    labels = "single"
    if several:
        labels = "multi"
    if subjects.is_run(where):
        return _of_run(where, data_dir, labels)
    recipe = dataclasses.replace(
        RECIPES["small"],
        train_split=split,
        holdout=0.0,
        num_classes=num_classes,
        first_label=first_label,
        labels=labels,
    )
    kind, place, name = _kind_of(where)
    if kind == "tfds":
        recipe = dataclasses.replace(recipe, dataset=place, data_dir=data_dir, train_split=name)
        found = sources.of_kind(record_sets.open_tfds(recipe), labels)
        return _all_of(found, f"TFDS '{where}'", chosen=True)
    recipe = dataclasses.replace(recipe, dataset=kind, data_dir=place)
    title = f"{_TITLES[kind]} '{where}'"
    if split is not None:
        title += f", {split}"
    found = sources.of_kind(_OPENERS[kind](recipe), labels)
    return _all_of(found, title, chosen=split is not None)


_TITLES = {"folder": "folder", "table": "table", "tfrecord": "TFRecords"}
_OPENERS = {
    "folder": folders.open_folder,
    "table": sources.open_table,
    "tfrecord": record_sets.open_tfrecord,
}


def _kind_of(where):
    """Returns (kind, place, split of TFDS or None)."""
    if storage.is_folder(where):
        if any(_RECORDS.fullmatch(name) for name in storage.names(where)):
            return "tfrecord", where, None
        return "folder", where, None
    if where.lower().endswith((".csv", ".jsonl")):
        return "table", where, None
    found = _TFDS.fullmatch(where)
    if found and not storage.exists(where):
        return "tfds", found[1], found[2]
    raise InputError(f"There are no images at '{where}'. Give {KINDS}.")


def _all_of(source: data.Source, title: str, chosen: bool) -> data.Source:
    """Returns a source whose held-out images are those that were asked for."""
    records = source.train
    if source.held_out.count and not chosen:
        records = source.held_out
        title += ", the part to evaluate on"
    if not records.count:
        raise InputError(f"The {title} has no images to evaluate on.")
    return _evaluated(title, source, records)


def _evaluated(title, source, records):
    """A source of these records alone, and of nothing to train on."""
    return data.Source(
        title, tuple(source.class_names), data.Listed([]), records, label_sets=source.label_sets
    )


def _of_run(workdir: str, data_dir: str | None, labels: str) -> data.Source:
    """The held-out images of a run, as its training evaluates them."""
    recipe, names = texts.read_run(workdir)
    if data_dir:
        recipe = dataclasses.replace(recipe, data_dir=data_dir)
    if recipe.labels != labels == "single":
        raise InputError(
            f"The images of the run '{workdir}' have several names each, and the network gives one "
            "class: only a network trained with --labels multi can be evaluated on them."
        )
    recipe = dataclasses.replace(recipe, labels=labels, sampling="natural")
    try:
        source = data.open_source(recipe, for_training=False)
    except InputError as error:
        raise InputError(
            f"The images of the run '{workdir}' cannot be opened: {error} (--data_dir says where "
            "they are now.)"
        ) from error
    if tuple(source.class_names) != names:
        log.info(f"{source.name} has other classes than the run '{workdir}' was trained on.")
    return _evaluated(f"held-out images of the run '{workdir}'", source, source.held_out)


def bound_of(where: str, default: float) -> float:
    """Returns the fraction of bad images that a run allows; `default` for other images."""
    if not subjects.is_run(where):
        return default
    recipe, _ = texts.read_run(where)
    return recipe.max_bad_fraction
