"""Which data sets are there, and how is each opened?

Six kinds with one face, `Source`: scikit-learn's handwritten digits, a folder with one
folder per class, a table of paths and labels, TFRecord files as those of the original code,
any TFDS classification data set on disk, and coloured noise.
"""

import dataclasses
import hashlib
import os
import re

import numpy as np
import tensorflow as tf

from effnet_tf import config, extras
from effnet_tf.errors import InputError, first_line
from effnet_tf.data import tables
from effnet_tf.data.bad import BadExamples
from effnet_tf.data.records import Features, Listed, RecordFiles
from effnet_tf.data.tfrecord import Shard

EVAL_SPLITS = ("validation", "val", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


@dataclasses.dataclass(frozen=True)
class Source:
    """A classification data set: who is in it, and how to read it.

    Attributes:
        name: of the data set, for people.
        class_names: one name per label.
        train: the training images, `records.Listed` or `records.RecordFiles`.
        held_out: the images to evaluate on.
        bad: the `BadExamples` that this process has met.
    """

    name: str
    class_names: tuple[str, ...]
    train: object
    held_out: object
    bad: BadExamples = None

    def __post_init__(self):
        if self.bad is None:
            object.__setattr__(self, "bad", BadExamples(self.class_names))
        for split, records in (("train", self.train), ("eval", self.held_out)):
            for fault in getattr(records, "faults", ()):
                self.bad.add({"split": split, **fault})

    def records(self, split):
        """Returns the records of "train" or "eval"."""
        return {"train": self.train, "eval": self.held_out}[split]

    @property
    def num_train(self):
        """Training images that can be found; some of them may prove bad."""
        return self.train.count

    @property
    def num_eval(self):
        """Held-out images."""
        return self.held_out.count


def open_source(recipe, *, for_training=True):
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
    kinds = {"digits": _digits, "folder": _folder, "table": _table, "tfrecord": _tfrecord,
             "synthetic": synthetic}
    source = kinds.get(recipe.dataset, _tfds)(recipe)
    if len(source.class_names) < 2:
        raise InputError(f"{source.name} has only the class '{source.class_names[0]}'; a "
                         "classifier needs at least two. Is data_dir the folder that holds "
                         "one folder per class?")
    if recipe.num_classes not in (None, len(source.class_names)):
        raise InputError(f"num_classes is {recipe.num_classes}, but {source.name} has "
                         f"{len(source.class_names)}: {', '.join(source.class_names[:20])}.")
    for fault in source.bad.entries:
        print(f"{fault['key']}: {fault['reason']}; about {fault['records']:,} records are lost.")
    if not source.num_train or not source.num_eval:
        raise InputError(f"{source.name} has {source.num_train} images to train and "
                         f"{source.num_eval} to evaluate on; both need at least one.")
    if for_training and recipe.batch_size > source.num_train:
        raise InputError(f"batch_size is {recipe.batch_size}, but {source.name} has only "
                         f"{source.num_train} training images: use a smaller --batch_size.")
    print(f"{source.name}: {source.num_train:,} images to train on, {source.num_eval:,} held "
          f"out, {len(source.class_names)} classes")
    return source


def _held_out(rows, key, fraction):
    """Splits rows by a stable hash of `key(row)`: an image keeps its side for ever."""
    def is_held_out(row):
        digest = hashlib.sha256(os.fsencode(key(row))).digest()
        return int.from_bytes(digest[:8], "big") < fraction * 2**64

    marks = [is_held_out(row) for row in rows]
    return ([row for row, mark in zip(rows, marks) if not mark],
            [row for row, mark in zip(rows, marks) if mark])


# --- in memory -------------------------------------------------------------------------------

def _digits(recipe):
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels of 17 grey levels."""
    datasets = extras.load("sklearn.datasets", "The data set 'digits'")
    digits = datasets.load_digits()
    grey = np.round(digits.images * (255 / 16)).astype("uint8")
    rows = [(tf.io.encode_png(image[..., np.newaxis]).numpy(), label, str(number))
            for number, (image, label) in enumerate(zip(grey, digits.target))]
    train, held_out = _held_out(rows, lambda row: row[2], recipe.holdout)
    return Source("Handwritten digits", tuple(str(name) for name in digits.target_names),
                  Listed([row[:2] for row in train]), Listed([row[:2] for row in held_out]))


def synthetic(recipe, num_classes=10):
    """Coloured noise, one colour per class: two batches, for trying a run out without data."""
    classes = recipe.num_classes or num_classes
    random = np.random.default_rng(recipe.seed)
    colours = random.integers(0, 256, (classes, 3))

    def image(label):
        noise = random.integers(-60, 61, (64, 64, 3))
        return tf.io.encode_jpeg(np.clip(colours[label] + noise, 0, 255).astype("uint8")).numpy()

    rows = [(image(number % classes), number % classes)
            for number in range(2 * recipe.batch_size + 40)]
    return Source("Synthetic images", tuple(f"colour {number}" for number in range(classes)),
                  Listed(rows[40:]), Listed(rows[:40]))


# --- image files ------------------------------------------------------------------------------

def _folder(recipe):
    """One folder per class; or such folders under train/ and val/."""
    root = recipe.data_dir
    if not root or not tf.io.gfile.isdir(root):
        raise InputError(f"--dataset folder needs --data_dir, a folder with one folder of images "
                         f"per class; '{root}' is none.")
    train_name = recipe.train_split or "train"
    eval_name = recipe.eval_split or next(
        (name for name in EVAL_SPLITS if tf.io.gfile.isdir(os.path.join(root, name))), None)
    if eval_name and all(tf.io.gfile.isdir(os.path.join(root, name))
                         for name in (train_name, eval_name)):
        class_names, train = _class_folders(os.path.join(root, train_name))
        eval_classes, held_out = _class_folders(os.path.join(root, eval_name))
        if eval_classes != class_names:
            raise InputError(f"{train_name}/ and {eval_name}/ of '{root}' have other classes: "
                             f"{_odd(class_names, eval_classes)} only in one of them.")
        how = f"folders {train_name}/ and {eval_name}/"
    elif recipe.train_split or recipe.eval_split:
        raise InputError(f"'{root}' has no folders {train_name}/ and {eval_name or 'val'}/.")
    else:
        class_names, rows = _class_folders(root)
        train, held_out = _held_out(rows, lambda row: os.path.relpath(row[0], root).replace(
            os.sep, "/"), recipe.holdout)
        how = f"{recipe.holdout:.0%} held out by a hash of the file name"
    return Source(f"Folder '{root}' ({how})", tuple(class_names), Listed(train, paths=True),
                  Listed(held_out, paths=True))


def _odd(a, b):
    return ", ".join(sorted(set(a) ^ set(b)))


def _class_folders(root):
    """Returns (class names, rows of (path, label)) of the folders under `root`."""
    # Not gfile's on this machine, which fails at names that are no UTF-8.
    found = tf.io.gfile.listdir(root) if "://" in root else os.listdir(root)
    entries = [name.rstrip("/") for name in found]
    names = sorted(name for name in entries if not name.startswith(".")
                   and _is_folder(os.path.join(root, name)))
    if not names:
        what = "has files but no folders" if entries else "is empty"
        raise InputError(f"'{root}' {what}: it must hold one folder of images per class.")
    rows, ignored = [], []
    for label, name in enumerate(names):
        files = _files(os.path.join(root, name))
        images = [path for path in files if path.lower().endswith(IMAGE_SUFFIXES)]
        if not images:
            raise InputError(f"Folder '{os.path.join(root, name)}' holds no images "
                             f"({', '.join(IMAGE_SUFFIXES)}); every class needs some.")
        rows += [(path, label) for path in images]
        ignored += sorted(set(files) - set(images))
    if ignored:
        print(f"Ignored {len(ignored)} file(s) that are not {', '.join(IMAGE_SUFFIXES)}, such as "
              f"{ignored[0]}")
    return names, rows


def _is_folder(path):
    return tf.io.gfile.isdir(path) if "://" in path else os.path.isdir(path)


def _files(root):
    """Returns the files below a folder, sorted; nothing whose name starts with a dot."""
    # os.walk is quicker: gfile asks once per file.
    walk = tf.io.gfile.walk(root) if "://" in root else os.walk(root, followlinks=True)
    found = []
    for folder, _, files in walk:
        below = os.path.relpath(folder, root) if folder != root else ""
        if not any(part.startswith(".") for part in below.split(os.sep)):
            found += [os.path.join(folder, name) for name in files if not name.startswith(".")]
    return sorted(found)


def _table(recipe):
    """A CSV or JSONL file of paths and labels."""
    table = tables.read(recipe.data_dir)
    train_name = recipe.train_split or "train"
    splits = sorted({row.split for row in table.rows} - {None})
    eval_name = recipe.eval_split or next((name for name in EVAL_SPLITS if name in splits), None)
    if splits:
        for name in (train_name, eval_name or "validation"):
            if name not in splits:
                raise InputError(f"'{recipe.data_dir}' has no rows of the split '{name}'; it has "
                                 f"{', '.join(splits)}: see --train_split and --eval_split.")
        train, held_out = ([(row.path, row.label) for row in table.rows if row.split == name]
                           for name in (train_name, eval_name))
        how = f"splits {train_name} and {eval_name}"
        others = len(table.rows) - len(train) - len(held_out)
        if others:
            print(f"Ignored {others} row(s) of '{recipe.data_dir}' that are of other splits.")
    else:
        rows = [(row.path, row.label, row.name) for row in table.rows]
        train, held_out = ([row[:2] for row in part] for part in _held_out(
            rows, lambda row: row[2], recipe.holdout))
        how = f"{recipe.holdout:.0%} held out by a hash of the path"
    return Source(f"Table '{recipe.data_dir}' ({how})", table.class_names,
                  Listed(train, paths=True), Listed(held_out, paths=True))


# --- TFRecord files --------------------------------------------------------------------------

def _tfrecord(recipe):
    """TFRecord files as the original code reads them: train-00000-of-01024, labels from 1."""
    root = recipe.data_dir
    if not root or not tf.io.gfile.isdir(root):
        raise InputError("--dataset tfrecord needs --data_dir, a folder with files such as "
                         f"train-00000-of-01024 and validation-00000-of-00128; '{root}' is none.")
    train = recipe.train_split or "train"
    held_out = recipe.eval_split or next(
        (name for name in EVAL_SPLITS if any(
            file.startswith(f"{name}-") for file in tf.io.gfile.listdir(root))), "validation")
    features = Features(first_label=recipe.first_label)
    records = [RecordFiles(_numbered(root, split), features) for split in (train, held_out)]
    return Source(f"TFRecords '{root}' ({train} / {held_out})", _class_names(recipe), *records)


def _numbered(root, split):
    """Returns the `Shard`s of a split, also those that are missing."""
    # Not glob, to which brackets in the name of the folder would mean something.
    totals = {found[1] for name in tf.io.gfile.listdir(root)
              if (found := re.fullmatch(rf"{re.escape(split)}-\d+-of-(\d+)", name))}
    if len(totals) != 1:
        what = "several sets of" if totals else "no"
        raise InputError(f"'{root}' has {what} files {split}-00000-of-NNNNN; give --train_split "
                         "and --eval_split if they begin with other names.")
    total = totals.pop()
    width = len(total)
    return [Shard(os.path.join(root, f"{split}-{number:0{width}}-of-{total}"))
            for number in range(int(total))]


def _class_names(recipe):
    """The names in classes.txt beside the records; or ImageNet's."""
    path = os.path.join(recipe.data_dir, "classes.txt")
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            names = [line.strip() for line in file.read().rstrip().split("\n")]
        if "" in names:
            raise InputError(f"'{path}' has an empty line: it must hold one class name per line.")
        return tuple(names)
    if recipe.num_classes not in (None, 1000):
        raise InputError(f"The records in '{recipe.data_dir}' do not say what their classes are "
                         "called: write the names into classes.txt beside them, one per line.")
    tfds = extras.load("tensorflow_datasets", "Naming ImageNet's classes")
    print(f"There is no classes.txt in '{recipe.data_dir}': taking ImageNet's 1,000 classes.")
    names = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    return tuple(names.read_text().split())


# --- TensorFlow Datasets -----------------------------------------------------------------------

def _tfds(recipe):
    """A prepared TFDS data set; its images stay encoded until they are cropped."""
    # Here: the other sources do not need its import.
    tfds = extras.load("tensorflow_datasets", f"The data set '{recipe.dataset}'")
    builder = _tfds_builder(tfds, recipe)
    image_key, label_key = _tfds_keys(tfds, builder)
    train_split, eval_split = _tfds_splits(builder, recipe)
    if builder.info.file_format.value != "tfrecord":
        raise InputError(f"TFDS '{builder.name}' is stored as {builder.info.file_format.value}; "
                         "prepare it as TFRecord files: tfds convert_format --out_file_format="
                         f"tfrecord --dataset_dir={builder.data_path} --out_path=...")

    def records(split):
        shards = [Shard(str(part.filename), part.skip,
                        None if part.take < 0 else part.take, part.examples_in_shard)
                  for part in builder.info.splits[split].file_instructions]
        return RecordFiles(shards, Features(image_key, label_key))

    return Source(f"TFDS {builder.info.full_name} ({train_split} / {eval_split})",
                  tuple(builder.info.features[label_key].names), records(train_split),
                  records(eval_split))


def _tfds_builder(tfds, recipe):
    try:
        builder = tfds.builder(recipe.dataset, data_dir=recipe.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = ["digits", "folder", "table", "tfrecord", "synthetic", *tfds.list_builders()]
        raise InputError(f"There is no data set '{recipe.dataset}': it is none of "
                         f"{', '.join(known[:5])}, nor of TFDS, nor prepared under "
                         f"'{recipe.data_dir}'. "
                         f"{config.nearest(recipe.dataset, known, cutoff=0.7)}") from error
    except (ValueError, AssertionError, ImportError, RuntimeError, OSError,
            tf.errors.OpError) as error:  # a bad name, configuration, version or place
        raise InputError(f"TFDS cannot open '{recipe.dataset}': "
                         f"{first_line(error)}.") from error
    if not builder.is_prepared():
        raise InputError(
            f"The TFDS data set '{recipe.dataset}' is not prepared under {builder.data_path}. Give "
            "the --data_dir where it is, or prepare it: python -c \"import tensorflow_datasets as "
            f"tfds; tfds.builder('{recipe.dataset}', data_dir="
            f"'{recipe.data_dir or '~/tensorflow_datasets'}').download_and_prepare()\"")
    return builder


def _tfds_keys(tfds, builder):
    """Returns the names of the (image, label) features."""
    features = builder.info.features
    images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    labels = [key for key, value in features.items()
              if isinstance(value, tfds.features.ClassLabel)]
    keys = builder.info.supervised_keys or ()
    if keys and keys[0] in images and keys[1] in labels:
        return keys[0], keys[1]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    raise InputError(f"TFDS '{builder.name}' is no image classification data set: it has the "
                     f"features {', '.join(features)}.")


def _tfds_splits(builder, recipe):
    splits = builder.info.splits
    train = recipe.train_split or "train"
    held_out = recipe.eval_split or next((name for name in EVAL_SPLITS if name in splits), None)
    if held_out is None:
        percent = round(100 * recipe.holdout)
        train, held_out = f"{train}[{percent}%:]", f"{train}[:{percent}%]"
    for split in (train, held_out):
        try:
            splits[split].num_examples
        except (KeyError, ValueError, AssertionError):
            raise InputError(f"TFDS '{builder.name}' has no split '{split}'; it has "
                             f"{', '.join(splits)}, and slices such as 'train[:90%]'.") from None
    return train, held_out
