"""How are record files and TFDS data sets opened?

TFRecord files as those of the original code, and any TFDS classification data set on disk.
"""

import os
import re

import numpy as np
import tensorflow as tf

from effnet_tf import class_names, extras, storage
from effnet_tf.data import splits
from effnet_tf.data.records import Chosen, Features, RecordFiles
from effnet_tf.data.source import Source
from effnet_tf.data.tfrecord import Shard
from effnet_tf.errors import InputError, first_line, nearest
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe

# --- TFRecord files --------------------------------------------------------------------------

_NUMBERED = re.compile(r"(.+)-(\d+)-of-(\d+)", re.DOTALL)
MOST_FILES = 1_000_000  # that a name may claim; the original's ImageNet has 1,024


def open_tfrecord(recipe: Recipe) -> Source:
    """TFRecord files as the original code reads them: train-00000-of-01024, labels from 1."""
    root = recipe.data_dir
    if not root or not storage.is_folder(root):
        raise InputError(
            "--dataset tfrecord needs --data_dir, a folder with files such as "
            "train-00000-of-01024 and validation-00000-of-00128; "
            f"'{root}' is not a folder."
        )
    names = storage.names(root)
    parts = sorted({found[1] for name in names if (found := _NUMBERED.fullmatch(name))})
    train, held_out = splits.choose(parts, recipe, f"TFRecords '{root}'")
    shards = {
        split: _numbered(root, names, split) for split in (train or "train", held_out) if split
    }
    _check_no_file_twice(sum(shards.values(), []))
    features = Features(first_label=recipe.first_label)
    records = [RecordFiles(some, features) for some in shards.values()]
    how = f"{train} / {held_out}"
    if held_out is None:
        how, records = _drawn(train, records[0], recipe.holdout)
    train_records, eval_records = records
    return Source(f"TFRecords '{root}' ({how})", _class_names(recipe), train_records, eval_records)


def _drawn(train, records, fraction):
    """Returns (how, (training records, held-out ones)) of a data set with one part."""
    marks = splits.hold_out_records(records.sizes, records.skips, fraction)
    parts = (
        Chosen(records, np.flatnonzero(~marks), records.faults),
        Chosen(records, np.flatnonzero(marks)),
    )
    return f"{train}, {100 * fraction:g}% held out by a hash of the record's place", parts


def _numbered(root, names, split):
    """Returns the `Shard`s of a split, also those that are missing."""
    totals = {
        found[3] for name in names if (found := _NUMBERED.fullmatch(name)) and found[1] == split
    }
    if len(totals) != 1:
        what = "no"
        if totals:
            what = "several sets of"
        raise InputError(
            f"'{root}' has {what} files {split}-00000-of-NNNNN; give --train_split "
            "and --eval_split if they begin with other names."
        )
    total = totals.pop()
    if int(total) > MOST_FILES:
        raise InputError(
            f"'{root}' has a file {split}-...-of-{total}: more than {MOST_FILES:,} "
            "files cannot be read."
        )
    width = len(total)
    return [
        Shard(os.path.join(root, f"{split}-{number:0{width}}-of-{total}"))
        for number in range(int(total))
    ]


def _check_no_file_twice(shards):
    """Refuses links from one file to another: images would be trained on and held out."""
    known = {}
    for path in (shard.path for shard in shards):
        if storage.is_remote(path):
            continue
        try:
            found = os.stat(path)
        except OSError:
            continue  # missing files are named when they are read
        if found.st_ino:
            first = known.setdefault((found.st_dev, found.st_ino), path)
            if first is not path:
                raise InputError(
                    f"'{first}' and '{path}' are the same file: put the right file "
                    "in the place of the link."
                )


def _class_names(recipe):
    """The names in classes.txt beside the records; or ImageNet's."""
    path = os.path.join(recipe.data_dir, "classes.txt")
    if storage.exists(path):
        try:
            content = storage.read_bytes(path, class_names.MAX_BYTES)
        except (OSError, tf.errors.OpError) as error:
            raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
        return _without_background(class_names.parse(content, path), path, recipe)
    if recipe.num_classes not in (None, 1000):
        raise InputError(
            f"The records in '{recipe.data_dir}' do not say what their classes are "
            "called: write the names into classes.txt beside them, one per line."
        )
    tfds = extras.load("tensorflow_datasets", "Naming ImageNet's classes")
    log.info(f"There is no classes.txt in '{recipe.data_dir}': taking ImageNet's 1,000 classes.")
    names = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    return tuple(names.read_text().split())


def _without_background(names, path, recipe):
    """The names of labels from `first_label` on, of a list that may begin with the background's.

    Lists of 1,001 names have it for label 0, which the original's files do not use.
    """
    prepared = storage.exists(os.path.join(recipe.data_dir, "prepared.json"))  # of our own
    if (
        names[0].casefold() != class_names.BACKGROUND
        or recipe.first_label == 0
        or prepared
        or recipe.num_classes == len(names)
    ):
        return names
    if recipe.num_classes == len(names) - 1:
        log.info(f"'{path}' begins with '{names[0]}', for label 0: it is left out.")
        return names[1:]
    raise InputError(
        f"'{path}' begins with '{names[0]}'. If that is label 0, which the files do not use, "
        f"give --num_classes {len(names) - 1}; if it is the class of label {recipe.first_label}, "
        f"give --num_classes {len(names)}."
    )


# --- TensorFlow Datasets -----------------------------------------------------------------------


def open_tfds(recipe: Recipe) -> Source:
    """A prepared TFDS data set; its images stay encoded until they are cropped."""
    # Here: the other sources do not need its import.
    tfds = extras.load("tensorflow_datasets", f"The data set '{recipe.dataset}'")
    builder = _tfds_builder(tfds, recipe)
    image_key, label_key = _tfds_keys(tfds, builder)
    train, held_out = _tfds_splits(builder, recipe)
    _check_format(builder)

    def records(split):
        parts = builder.info.splits[split].file_instructions
        return RecordFiles([_shard(part) for part in parts], Features(image_key, label_key))

    if held_out:
        how, both = f"{train} / {held_out}", (records(train), records(held_out))
    else:
        how, both = _drawn(train, records(train), recipe.holdout)
    return Source(
        f"TFDS {builder.info.full_name} ({how})",
        tuple(builder.info.features[label_key].names),
        *both,
    )


def _check_format(builder):
    if builder.info.file_format.value != "tfrecord":
        raise InputError(
            f"TFDS '{builder.name}' is stored as {builder.info.file_format.value}; "
            "prepare it as TFRecord files: tfds convert_format --out_file_format="
            f"tfrecord --dataset_dir={builder.data_path} --out_path=..."
        )


def _shard(part):
    """The `Shard` of what TFDS says of a file: -1 records are all of them."""
    take = part.take
    if take < 0:
        take = None
    return Shard(str(part.filename), part.skip, take, part.examples_in_shard)


def _tfds_builder(tfds, recipe):
    try:
        builder = tfds.builder(recipe.dataset, data_dir=recipe.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = ["digits", "folder", "table", "tfrecord", "synthetic", *tfds.list_builders()]
        raise InputError(
            f"There is no data set '{recipe.dataset}': it is none of "
            f"{', '.join(known[:5])}, nor of TFDS, nor prepared under "
            f"'{recipe.data_dir}'. "
            f"{nearest(recipe.dataset, known, cutoff=0.7)}"
        ) from error
    except (
        ValueError,
        AssertionError,
        ImportError,
        RuntimeError,
        OSError,
        tf.errors.OpError,
    ) as error:  # a bad name, configuration, version or place
        raise InputError(f"TFDS cannot open '{recipe.dataset}': {first_line(error)}.") from error
    if not builder.is_prepared():
        raise InputError(
            f"The TFDS data set '{recipe.dataset}' is not prepared under {builder.data_path}. Give "
            'the --data_dir where it is, or prepare it: python -c "import tensorflow_datasets as '
            f"tfds; tfds.builder('{recipe.dataset}', data_dir="
            f"'{recipe.data_dir or '~/tensorflow_datasets'}').download_and_prepare()\""
        )
    return builder


def _tfds_keys(tfds, builder):
    """Returns the names of the (image, label) features."""
    features = builder.info.features
    images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    labels = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)]
    keys = builder.info.supervised_keys or ()
    if keys and keys[0] in images and keys[1] in labels:
        return keys[0], keys[1]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    raise InputError(
        f"TFDS '{builder.name}' is not an image classification data set: it has the "
        f"features {', '.join(features)}."
    )


def _tfds_splits(builder, recipe):
    """Returns (split to train on, split to evaluate on or None)."""
    known = builder.info.splits
    train, held_out = splits.choose(list(known), recipe, f"TFDS '{builder.name}'")
    train = train or "train"
    for split in (train, held_out):
        try:
            if split:
                int(known[split].num_examples)
        except (KeyError, ValueError, AssertionError):
            raise InputError(
                f"TFDS '{builder.name}' has no split '{split}'; it has "
                f"{', '.join(known)}, and slices such as 'train[:90%]'."
            ) from None
    return train, held_out
