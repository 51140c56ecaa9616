"""What is in a data set, and what is wrong with it, before a week of training?"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os

import tensorflow as tf
import tqdm

from effnet_tf import augment, plots
from effnet_tf.data import bad, batches
from effnet_tf.data.records import or_else

ROWS, DRAWS = 8, 5  # of the contact sheet: images, and how often each is augmented
AT_ONCE = 256  # images that are decoded before the next are read


@dataclasses.dataclass
class Split:
    """What a scan found in one split."""

    images: int = 0
    bytes: int = 0
    classes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    sides: list = dataclasses.field(default_factory=list)  # (height, width) of the good ones


def scan(source):
    """Reads and decodes every image of a `Source`; shows progress.

    Returns:
        ({"train": Split, "eval": Split}, [groups of keys "split key" of equal images in both
        splits], number of images that are again in their own split). Bad images are in
        `source.bad`.
    """
    splits, hashes = {}, {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, records in (("train", source.train), ("eval", source.held_out)):
            splits[name] = found = Split()
            shown = tqdm.tqdm(examples(records), name, records.count, unit=" images")
            while some := list(itertools.islice(shown, AT_ONCE)):
                for one, seen in zip(some, pool.map(_look, some)):
                    _count(source, name, found, hashes, one, seen)
    groups = [sorted(keys) for keys in hashes.values() if len(keys) > 1]
    across = [keys for keys in groups if len({key.split()[0] for key in keys}) > 1]
    return splits, across, sum(len(keys) - 1 for keys in groups) - len(across)


def _count(source, name, found, hashes, one, seen):
    """Adds an example, and what was seen in it, to the findings."""
    number, encoded, label = one
    fault, digest, shape = seen
    records = source.train if name == "train" else source.held_out
    found.images += 1
    if fault or not 0 <= label < len(source.class_names):
        source.bad.examine(name, records, number)
        return
    found.bytes += len(encoded)
    found.classes[int(label)] += 1
    found.sides.append(shape)
    hashes.setdefault(digest, []).append(f"{name} {records.name(number)['key']}")


def examples(records):
    """Yields (record, bytes of the image, label) in their order; b"" where it fails."""
    @tf.autograph.experimental.do_not_convert
    def load(number, raw):
        return number, *or_else(lambda: records.load(number, raw),
                                lambda: (tf.constant(""), tf.constant(-1, tf.int64)))

    dataset = batches.in_order(records).unbatch().map(load, tf.data.AUTOTUNE, deterministic=True)
    for number, encoded, label in dataset.prefetch(AT_ONCE).as_numpy_iterator():
        yield int(number), encoded, int(label)


def _look(one):
    """Returns (what is wrong, hash, (height, width)) of an example."""
    encoded = one[1]
    fault = bad.fault(encoded)
    shape = None if fault else tuple(augment.shape_of(tf.constant(encoded)).numpy())
    return fault, hashlib.sha256(encoded).digest()[:16], shape


def table(source, splits, across, again):
    """Returns the findings as lines for people."""
    lines = [f"{'':6} {'images':>10} {'bad':>6} {'per class':>16} {'short side':>18} "
             f"{'kB each':>8}"]
    for name, found in splits.items():
        counts = [found.classes[label] for label in range(len(source.class_names))]
        short = sorted(min(shape) for shape in found.sides) or [0]
        good = max(1, len(found.sides))
        lines.append(
            f"{name:6} {found.images:>10,} {source.bad.count(name):>6,} "
            f"{f'{min(counts):,} to {max(counts):,}':>16} "
            f"{f'{short[0]}..{short[len(short) // 2]}..{short[-1]}':>18} "
            f"{found.bytes / good / 1000:>8.1f}")
        empty = [source.class_names[label] for label, count in enumerate(counts) if not count]
        if empty:
            lines.append(f"{name}: no image of {', '.join(empty[:bad.SHOWN])}"
                         f"{' ...' if len(empty) > bad.SHOWN else ''}")
    lines.append("short side: smallest..median..largest, in pixels")
    if across:
        lines.append(f"{len(across):,} image(s) are in both splits, so that evaluation knows them "
                     f"from training: {'; '.join(' = '.join(keys) for keys in across[:5])}")
    if again:
        lines.append(f"{again:,} image(s) are again in their own split.")
    for entry in source.bad.entries[:bad.SHOWN]:
        lines.append(f"bad: {entry['split']} {entry['key']}: {entry['reason']}")
    if len(source.bad.entries) > bad.SHOWN:
        lines.append(f"... and {len(source.bad.entries) - bad.SHOWN:,} more")
    return lines


def contact_sheet(source, recipe, path):
    """Draws some training images: as evaluation would see them, and augmented some times."""
    images, captions = [], []
    for row in range(ROWS):
        first, end = (source.train.count * part // ROWS for part in (row, row + 1))
        for number in range(first, end):
            try:
                some, label = _drawn(source.train, recipe, number, row)
            except tf.errors.OpError:
                continue  # the scan has named it
            images += some
            known = 0 <= label < len(source.class_names)
            captions += [source.class_names[label] if known else f"label {label}"]
            captions += [""] * DRAWS
            break
    if images:
        plots.predictions(images, captions, [None] * len(images), path)


def _drawn(records, recipe, number, row):
    """Returns ([the evaluation image, training images], label) of a record."""
    size = recipe.resolved_variant().resolution
    encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
    plain = augment.to_bytes(augment.evaluation_image(
        encoded, size, batches.padding(recipe, size), exif_rotation=recipe.exif_rotation,
        scaled_decode=recipe.scaled_decode))
    drawn = [batches.draw(recipe, encoded, size, row * DRAWS + draw) for draw in range(DRAWS)]
    return [image.numpy() for image in (plain, *drawn)], int(label)
