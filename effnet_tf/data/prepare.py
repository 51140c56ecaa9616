"""How is a data set shrunk once, so that every epoch decodes less?

Training images become JPEGs whose short side is a little longer than the network's input;
held-out images are copied as they are, so that evaluation changes nothing.
"""

import json
import math
import os
import re
from typing import Any

import numpy as np
import tensorflow as tf

from effnet_tf import class_names, progress, storage
from effnet_tf.data import batches, crops, decoding
from effnet_tf.data.records import or_else, untuned
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError, SaveError, first_line
from effnet_tf.recipes import Recipe

MARGIN = 1.15  # short side over the largest training size
PER_FILE = 1000  # records, as in the original's 1,024 files
SAMPLED = 200  # images whose fidelity is measured
AHEAD = 256  # images that are shrunk before the next is written

# In the unfinished copy: says that it is one, and nothing but these names is ever removed.
MARK = "unfinished"
_OURS = re.compile(
    r"(train|validation)-\d{5,}-of-\d{5,}"
    r"|(classes\.txt|prepared\.json|bad_examples\.jsonl|unfinished)(\.tmp)?"
)


def prepare(source: Source, recipe: Recipe, out: str, *, quality: int = 95) -> dict[str, Any]:
    """Writes a pre-shrunk copy of a `Source` as TFRecord files for `--dataset tfrecord`.

    Bad training images are left out, and listed in bad_examples.jsonl of the copy.

    Args:
        source: a `Source`.
        recipe: a `Recipe`; its image size and `exif_rotation` count.
        out: folder that does not yet exist, local or gs://.
        quality: of the JPEGs, 1 to 100.

    Returns:
        What prepared.json says: sizes, and what shrinking cost in fidelity.

    Raises:
        InputError: `out` exists or cannot be written, images may have several names, or a class
            has a name that classes.txt cannot hold.
    """
    storage.check_place(out, "--out")
    if source.label_sets is not None:
        raise InputError(
            "A copy is record files, which have one label per image: train with --labels multi on "
            "the table itself."
        )
    if storage.exists(out):
        raise InputError(f"'{out}' exists already: give another --out, or remove it.")
    names = class_names.text(source.class_names, os.path.join(out, "classes.txt"))
    temporary = f"{out.rstrip('/')}.incomplete"
    _begin(temporary)
    try:
        about = _write_all(source, recipe, quality, names, temporary)
        tf.io.gfile.rename(temporary, out)
    except BaseException:
        _remove(temporary)
        raise
    tf.io.gfile.remove(os.path.join(out, MARK))
    return about


def _write_all(source, recipe, quality, names, folder):
    """Writes all files of the copy into a folder; returns what prepared.json says."""
    largest = max(recipe.resolved_variant().resolution, recipe.train_size())
    side = math.ceil(MARGIN * largest)
    about = {
        "short_side": side,
        "quality": quality,
        "source": source.name,
        **_fidelity(source, recipe, side, quality),
        "train": _write(source, recipe, "train", os.path.join(folder, "train"), (side, quality)),
        "validation": _write(source, recipe, "eval", os.path.join(folder, "validation"), None),
    }
    storage.write_text(os.path.join(folder, "classes.txt"), names)
    storage.write_text(os.path.join(folder, "prepared.json"), json.dumps(about, indent=2) + "\n")
    storage.write_rows(os.path.join(folder, "bad_examples.jsonl"), source.bad.entries)
    return about


def _begin(temporary):
    """Makes the folder of the unfinished copy; removes one that an interrupted run left."""
    if storage.exists(temporary):
        if not storage.exists(os.path.join(temporary, MARK)):
            raise InputError(
                f"'{temporary}' is in the way, and is not the unfinished copy of an "
                "interrupted prepare: move it, or give another --out."
            )
        _remove(temporary)
        if storage.exists(temporary):
            raise InputError(
                f"'{temporary}' holds files that prepare did not write: move them, or "
                "give another --out."
            )
    try:
        tf.io.gfile.makedirs(temporary)
        storage.write_text(os.path.join(temporary, MARK), "by python -m effnet_tf.data prepare\n")
    except (OSError, tf.errors.OpError, SaveError) as error:
        raise InputError(f"'{temporary}' cannot be written: {first_line(error)}.") from error


def _remove(folder):
    """Removes an unfinished copy, but for what somebody else put there."""
    if not storage.is_folder(folder):
        return
    others = [name for name in storage.names(folder) if not _OURS.fullmatch(name)]
    for name in storage.names(folder):
        if name not in others and not (others and name == MARK):
            tf.io.gfile.remove(os.path.join(folder, name))
    if not others:
        tf.io.gfile.rmtree(folder)  # empty by now


def shrunk(encoded: tf.Tensor, side: int, quality: int, exif_rotation: bool = False) -> tf.Tensor:
    """Shrinks an image file to a short side in pixels, as a JPEG: () string -> () string.

    One that is not longer stays as it is, and so does a file that would take more bytes
    afterwards: one that was compressed strongly, or a drawing.
    """
    shape = decoding.shape_of(encoded)
    short = tf.reduce_min(shape)

    def shrink():
        image = tf.cast(decoding.whole_image(encoded, exif_rotation), tf.float32)
        old = tf.cast(tf.shape(image)[:2], tf.float32)
        new = tf.round(old * (side / tf.reduce_min(old)))
        # TF1's resize aligns the corners of the images; so must this, or the two would shift
        # what the network sees by half a pixel.
        small = tf.raw_ops.ScaleAndTranslate(
            images=image[tf.newaxis],
            size=tf.cast(new, tf.int32),
            scale=new / old,
            translation=(1 - new / old) / 2,
            kernel_type="keyscubic",
            antialias=True,
        )[0]
        small = tf.io.encode_jpeg(crops.to_bytes(small), quality=quality)
        return tf.where(tf.strings.length(small) < tf.strings.length(encoded), small, encoded)

    def keep():
        # Fails if it is bad. A mere control dependency would be optimised away.
        return tf.where(tf.size(decoding.decode(encoded)) > 0, encoded, "")

    return tf.cond(short > side, shrink, keep)


def _write(source, recipe, split, prefix, shrink):
    """Writes the files of a split; returns how many images and bytes there are."""
    records = source.records(split)
    files = max(1, -(-records.count // PER_FILE))
    done = {"images": 0, "left_out": 0, "bytes_before": 0, "bytes": 0}
    rows = progress.bar(split, records.count, iterable=_converted(recipe, records, shrink))
    per_file, writer = -(-records.count // files), None
    for index, (number, before, encoded, label) in enumerate(rows):
        if index % per_file == 0:
            if writer:
                writer.close()
            writer = tf.io.TFRecordWriter(f"{prefix}-{index // per_file:05}-of-{files:05}")
        usable = encoded and 0 <= label < len(source.class_names)
        if not usable:
            source.bad.examine(split, records, int(number))
            if shrink:
                done["left_out"] += 1
                continue
        writer.write(_example(encoded, int(label), records.name(int(number))))
        done["images"] += 1
        done["bytes_before"] += int(before)
        done["bytes"] += len(encoded)
    writer.close()
    return done


def _converted(recipe, records, shrink):
    """Yields (record, bytes before, image file, label); an empty file where it fails."""

    @tf.autograph.experimental.do_not_convert
    def convert(*place):  # (position, record, what was read) where they are shuffled
        number, raw = place[-2:]

        def attempt():
            encoded, label = records.load(number, raw)
            before = tf.strings.length(encoded)
            if shrink:
                encoded = shrunk(encoded, *shrink, recipe.exif_rotation)
            return before, encoded, label

        return number, *or_else(
            attempt, lambda: (tf.constant(0), tf.constant(""), tf.constant(-1, tf.int64))
        )

    # Shuffled, since files are read in blocks of neighbours; held-out images as they come.
    stream = batches.in_order(records).unbatch()
    if shrink:
        stream = batches.shuffled(records, recipe.seed, 0, 0, 1).unbatch().take(records.count)
    return untuned(stream.map(convert, os.cpu_count()).prefetch(AHEAD)).as_numpy_iterator()


def _example(encoded, label, name):
    """An example as the original's, whose labels begin at 1."""
    of_bytes = [
        tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for value in (encoded, name["key"].encode())
    ]
    of_label = tf.train.Feature(int64_list=tf.train.Int64List(value=[label + 1]))
    return tf.train.Example(
        features=tf.train.Features(
            feature=dict(
                zip(("image/encoded", "image/filename", "image/class/label"), (*of_bytes, of_label))
            )
        )
    ).SerializeToString()


def _fidelity(source, recipe, side, quality):
    """Compares what the network would see of whole shrunk images and of the original ones."""
    spread = np.linspace(0, source.train.count - 1, SAMPLED).astype(np.int64)
    # Of fewer images than that, each is looked at once and counts as often as it comes.
    numbers, counts = np.unique(spread, return_counts=True)
    differences = []
    for number, count in zip(numbers, counts):
        try:
            difference = _difference(source.train, number, recipe, side, quality)
        except tf.errors.OpError:
            continue  # listed when it is its turn to be written
        differences += [difference] * count
    if not differences:
        raise InputError(f"No image of {source.name} can be used: check it first.")
    return {"mean_difference_grey_levels": float(np.mean(differences))}


def _difference(records, number, recipe, side, quality):
    """Returns by how many grey levels a shrunk image differs on average, at the network's size."""
    size = recipe.resolved_variant().resolution
    encoded, _ = records.load(tf.constant(number), tf.constant(""))
    files = encoded, shrunk(encoded, side, quality, recipe.exif_rotation)
    before, after = (
        crops.bicubic(decoding.whole_image(file, recipe.exif_rotation), size) for file in files
    )
    return np.mean(np.abs(before - after))
