"""Where do batches of images come from?

Four sources with one face: scikit-learn's handwritten digits, a folder with one folder
per class, any TFDS classification data set on disk, and coloured noise. All yield
encoded image files; `training` and `evaluation` turn these into batches.
"""

import dataclasses
import hashlib
import os
import re
import typing

import numpy as np
import tensorflow as tf

from effnet_tf import augment, config, policies
from effnet_tf.config import InputError

EVAL_SPLITS = ("validation", "val", "test")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
CHECKED_UP_FRONT = 50_000  # images; decoding more before training would take too long


@dataclasses.dataclass(frozen=True)
class Source:
    """A classification data set: who is in it, and how to read it.

    Attributes:
        name: of the data set, for people.
        class_names: one name per label.
        num_train: training images.
        num_eval: held-out images.
        train_examples: (seed, start, shard, num_shards) -> an endless tf.data.Dataset of
            (encoded image, label, key of the record), that starts at this shard's example
            number `start`.
        eval_examples: (shard, num_shards) -> a tf.data.Dataset of the held-out images.
        find_unreadable: () -> paths of the images that cannot be decoded.
    """

    name: str
    class_names: tuple[str, ...]
    num_train: int
    num_eval: int
    train_examples: typing.Callable
    eval_examples: typing.Callable
    find_unreadable: typing.Callable = tuple


def open_source(recipe):
    """Opens the data set of a `Recipe`, and says what it found.

    Returns:
        A `Source`.

    Raises:
        InputError: unknown or missing data set, fewer than two classes, unreadable
            images, other than `num_classes` classes, or more images in a batch than in all.
    """
    if recipe.dataset == "digits":
        source = _digits(recipe)
    elif recipe.dataset == "folder":
        source = _folder(recipe)
    elif recipe.dataset == "synthetic":
        source = synthetic(recipe)
    else:
        source = _tfds(recipe)
    if len(source.class_names) < 2:
        raise InputError(f"{source.name} has only the class '{source.class_names[0]}'; a "
                         "classifier needs at least two. Is data_dir the folder that holds "
                         "one folder per class?")
    if recipe.num_classes not in (None, len(source.class_names)):
        raise InputError(f"num_classes is {recipe.num_classes}, but {source.name} has "
                         f"{len(source.class_names)}: {', '.join(source.class_names[:20])}.")
    if not source.num_train or not source.num_eval:
        raise InputError(f"{source.name} has {source.num_train} images to train and "
                         f"{source.num_eval} to evaluate on; both need at least one.")
    if recipe.batch_size > source.num_train:
        raise InputError(f"batch_size is {recipe.batch_size}, but {source.name} has only "
                         f"{source.num_train} training images: use a smaller --batch_size.")
    print(f"{source.name}: {source.num_train:,} images to train on, {source.num_eval:,} held "
          f"out, {len(source.class_names)} classes")
    return source


# --- batches -----------------------------------------------------------------------------

def training(source, recipe, size, batch_size, *, start=0, shard=0, num_shards=1):
    """Returns the endless training batches of one host.

    Order and draws are functions of the recipe's seed and of the example's number, so
    a run that starts at `start` sees what an uninterrupted one would have seen.

    Args:
        source: from `open_source`.
        recipe: seed and augmentation.
        size: side of the images in pixels.
        batch_size: images per element.
        start: how many examples of this shard were seen before.
        shard: number of this host.
        num_shards: number of hosts.

    Returns:
        A tf.data.Dataset of {"images": (batch_size, size, size, 3) uint8, "labels":
        (batch_size,) int64} and, with mixup or cutmix, "mixing": see `augment.mixing`.
    """
    @tf.autograph.experimental.do_not_convert  # nothing to convert, and it takes a second
    def prepare(number, example):
        encoded, label, key = example
        # One seed per purpose: from the same one, crop and policy would be correlated.
        seed = tf.stack([tf.cast(recipe.seed, tf.int64), number * num_shards + shard])
        crop_seed, policy_seed, mix_seed = tf.unstack(
            tf.random.experimental.stateless_split(seed, 3))
        image = augment.training_image(
            encoded, size, crop_area_min=recipe.crop_area_min,
            crop_padding=recipe.eval_crop_padding, flip=recipe.flip, seed=crop_seed)
        element = {"images": _apply_policy(recipe, image, policy_seed),
                   "labels": _checked(source, label, key)}
        if recipe.mixup_alpha or recipe.cutmix_alpha:
            element["mixing"] = augment.mixing(
                mix_seed, size, recipe.mixup_alpha, recipe.cutmix_alpha)
        return element

    examples = source.train_examples(recipe.seed, start, shard, num_shards)
    return (tf.data.Dataset.zip(tf.data.Dataset.counter(start), examples)
            .map(prepare, tf.data.AUTOTUNE)
            .batch(batch_size, drop_remainder=True)
            .prefetch(tf.data.AUTOTUNE))


def _apply_policy(recipe, image, seed):
    if recipe.augment == "autoaugment":
        return policies.autoaugment(image, seed)
    if recipe.augment == "randaugment":
        return policies.randaugment(image, seed, recipe.randaugment_layers,
                                    recipe.randaugment_magnitude)
    return image


def _checked(source, label, key):
    """Returns the label; one out of range stops the run and names its record."""
    classes = len(source.class_names)
    right = tf.debugging.Assert((label >= 0) & (label < classes), [
        f"BAD LABEL of {source.name}: labels are 0 to {classes - 1}, and record", key, "has",
        label])
    with tf.control_dependencies([right]):
        return tf.identity(label)


def evaluation(source, recipe, size, batch_size, num_batches, *, shard=0, num_shards=1):
    """Returns the held-out images of one host, each once, padded to whole batches.

    Returns:
        A tf.data.Dataset of `num_batches` elements {"images", "labels", "weights":
        (batch_size,) float32, 1 for an image, 0 for padding}.
    """
    @tf.autograph.experimental.do_not_convert
    def prepare(encoded, label, key):
        return {"images": augment.evaluation_image(encoded, size, recipe.eval_crop_padding),
                "labels": _checked(source, label, key), "weights": 1.0}

    padding = {"images": tf.zeros((size, size, 3), tf.uint8),
               "labels": tf.zeros((), tf.int64), "weights": 0.0}
    return (source.eval_examples(shard, num_shards)
            .map(prepare, tf.data.AUTOTUNE)
            .concatenate(tf.data.Dataset.from_tensors(padding).repeat())
            .batch(batch_size, drop_remainder=True)
            .take(num_batches)
            .prefetch(tf.data.AUTOTUNE))


# --- sources that are a list of images ------------------------------------------------------

def _listed(name, class_names, train, held_out, load=lambda item: item, key="image"):
    """Makes a Source of two lists of (item, label); `load` turns an item into bytes.

    `key` names a record: a path is its own name, images in memory have a number.
    """
    def columns(rows):
        # An empty list still needs the types of its columns.
        return (tf.constant([item for item, _ in rows], tf.string),
                tf.constant([label for _, label in rows], tf.int64))

    def name_of(item, index):
        return item if key == "path" else tf.strings.join([key, " ", tf.strings.as_string(index)])

    def train_examples(seed, start, shard, num_shards):
        items, labels = columns(train)
        count = len(train)

        @tf.autograph.experimental.do_not_convert
        def pick(position):
            number = position * num_shards + shard  # over all hosts and epochs
            # A seeded permutation per epoch, without a buffer to fill or to save.
            seeds = tf.stack([tf.cast(seed, tf.int64), number // count])
            index = tf.random.experimental.index_shuffle(number % count, seeds, count - 1)
            return load(items[index]), labels[index], name_of(items[index], index)

        return tf.data.Dataset.counter(start).map(pick, tf.data.AUTOTUNE)

    def eval_examples(shard, num_shards):
        return (tf.data.Dataset.from_tensor_slices(columns(held_out)).enumerate()
                .shard(num_shards, shard)
                .map(lambda index, row: (load(row[0]), row[1], name_of(row[0], index)),
                     tf.data.AUTOTUNE))

    return Source(name, tuple(class_names), len(train), len(held_out), train_examples,
                  eval_examples, lambda: _unreadable([item for item, _ in train + held_out], load))


def _unreadable(items, load):
    """Returns the items that do not decode; shows progress."""
    images = iter(tf.data.Dataset.from_tensor_slices(items)
                  .map(lambda item: tf.shape(augment.decode(load(item))), tf.data.AUTOTUNE))
    bad = []
    for number, item in enumerate(items, start=1):
        try:
            next(images)
        except tf.errors.OpError:
            bad.append(item)
        if number % 1000 == 0:
            print(f"checked {number:,} of {len(items):,} images", flush=True)
    return bad


def _held_out(rows, key, fraction):
    """Splits rows by a stable hash of `key(row)`: an image keeps its side for ever."""
    def is_held_out(row):
        digest = hashlib.sha256(key(row).encode()).digest()
        return int.from_bytes(digest[:8], "big") < fraction * 2**64

    marks = [is_held_out(row) for row in rows]
    return ([row for row, mark in zip(rows, marks) if not mark],
            [row for row, mark in zip(rows, marks) if mark])


def _digits(recipe):
    """scikit-learn's 1,797 scans of handwritten digits, 8x8 pixels of 17 grey levels."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError("The digits come with scikit-learn, which is not installed: "
                         "pip install scikit-learn") from error
    digits = datasets.load_digits()
    grey = np.round(digits.images * (255 / 16)).astype("uint8")
    rows = [(tf.io.encode_png(image[..., np.newaxis]).numpy(), label, str(number))
            for number, (image, label) in enumerate(zip(grey, digits.target))]
    train, held_out = _held_out(rows, lambda row: row[2], recipe.holdout)
    return _listed("Handwritten digits", [str(name) for name in digits.target_names],
                   [row[:2] for row in train], [row[:2] for row in held_out])


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
    return _listed("Synthetic images", [f"colour {number}" for number in range(classes)],
                   rows[40:], rows[:40])


def _folder(recipe):
    """One folder per class; or such folders under train/ and val/."""
    root = recipe.data_dir
    if not root or not os.path.isdir(root):
        raise InputError(f"--dataset folder needs --data_dir, a folder with one folder of images "
                         f"per class; '{root}' is none.")
    train_name = recipe.train_split or "train"
    eval_name = recipe.eval_split or next(
        (name for name in EVAL_SPLITS if os.path.isdir(os.path.join(root, name))), None)
    if eval_name and all(os.path.isdir(os.path.join(root, name))
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
    source = _listed(f"Folder '{root}' ({how})", class_names, train, held_out, tf.io.read_file,
                     key="path")
    if source.num_train + source.num_eval <= CHECKED_UP_FRONT:
        refuse_unreadable(source)
    else:
        print(f"Images are not checked up front (more than {CHECKED_UP_FRONT:,}); the first "
              "unreadable one will stop the training and be named.")
    return source


def _odd(a, b):
    return ", ".join(sorted(set(a) ^ set(b)))


def refuse_bad_label(error):
    """Raises InputError if an error of TensorFlow is that of a label out of range."""
    found = re.search(r"BAD LABEL of (.*)", str(error))
    if found:
        raise InputError(f"A label is out of range: {found[1]}.") from error


def refuse_unreadable(source):
    """Raises InputError that names the images of a `Source` that cannot be decoded."""
    bad = source.find_unreadable()
    if bad:
        more = f", and {len(bad) - 10} more" if len(bad) > 10 else ""
        raise InputError(f"{len(bad)} image(s) cannot be decoded (JPEG, PNG, BMP or GIF is "
                         f"needed); mend or remove: {', '.join(bad[:10])}{more}")


def _class_folders(root):
    """Returns (class names, rows of (path, label)) of the folders under `root`."""
    names = sorted(entry.name for entry in os.scandir(root)
                   if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        what = "has files but no folders" if os.listdir(root) else "is empty"
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


def _files(root):
    """Returns the files below a folder, sorted; nothing whose name starts with a dot."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in files if not name.startswith(".")]
    return sorted(found)


# --- TensorFlow Datasets -----------------------------------------------------------------------

def _tfds(recipe):
    """A prepared TFDS data set; its images stay encoded until they are cropped."""
    import tensorflow_datasets as tfds  # here: the other sources do not need its import

    builder = _tfds_builder(tfds, recipe)
    image_key, label_key = _tfds_keys(tfds, builder)
    train_split, eval_split = _tfds_splits(builder, recipe)
    skip_decoding = {image_key: tfds.decode.SkipDecoding()}

    def read(split, **options):
        reading = tfds.ReadConfig(add_tfds_id=True, **options)  # the id names a record
        examples = builder.as_dataset(split=split, decoders=skip_decoding,
                                      shuffle_files="shuffle_seed" in options,
                                      read_config=reading)
        return examples.map(lambda row: (
            row[image_key], tf.cast(row[label_key], tf.int64), row["tfds_id"]))

    def train_examples(seed, start, shard, num_shards):
        return (read(train_split, shuffle_seed=seed, shuffle_reshuffle_each_iteration=True)
                .shard(num_shards, shard)
                .shuffle(min(count(train_split), 2_048), seed, reshuffle_each_iteration=True)
                .repeat().skip(start))

    def count(split):
        return builder.info.splits[split].num_examples

    return Source(
        f"TFDS {builder.info.full_name} ({train_split} / {eval_split})",
        tuple(builder.info.features[label_key].names), count(train_split), count(eval_split),
        train_examples, lambda shard, num_shards: read(eval_split).shard(num_shards, shard))


def _tfds_builder(tfds, recipe):
    try:
        builder = tfds.builder(recipe.dataset, data_dir=recipe.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        known = ["digits", "folder", *tfds.list_builders()]
        raise InputError(f"There is no data set '{recipe.dataset}': it is neither 'digits', nor "
                         f"'folder', nor of TFDS, nor prepared under '{recipe.data_dir}'. "
                         f"{config.nearest(recipe.dataset, known, cutoff=0.7)}") from error
    except (ValueError, AssertionError, ImportError, RuntimeError, OSError,
            tf.errors.OpError) as error:  # a bad name, configuration, version or place
        raise InputError(f"TFDS cannot open '{recipe.dataset}': "
                         f"{str(error).splitlines()[0]}") from error
    if not builder.is_prepared():
        raise InputError(
            f"The TFDS data set '{recipe.dataset}' is not prepared under {builder.data_path}. Give "
            "the --data_dir where it is, or prepare it: tfds build "
            f"{recipe.dataset} --data_dir {recipe.data_dir or '~/tensorflow_datasets'}")
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
