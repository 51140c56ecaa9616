"""What is in a data set, and what is wrong with it, before a week of training?"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterator

import tensorflow as tf

from effnet_tf import plots, progress
from effnet_tf.data import bad_images, batches, decoding
from effnet_tf.data.crops import EvaluationCrop
from effnet_tf.data.records import Records, or_else, untuned
from effnet_tf.data.source import Source
from effnet_tf.errors import printable
from effnet_tf.recipes import Recipe

ROWS, DRAWS = 8, 5  # of the contact sheet: images, and how often each is augmented
SHOWN_CLASSES = 20
AT_ONCE = 256  # images that are decoded before the next are read


@dataclasses.dataclass
class Split:
    """What a scan found in one split."""

    images: int = 0
    bytes: int = 0
    classes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    sides: list = dataclasses.field(default_factory=list)  # (height, width) of the good ones


@dataclasses.dataclass
class Findings:
    """What a scan found.

    Attributes:
        splits: {"train": Split, "eval": Split}.
        equal: groups of (split, label, key) of equal images.
    """

    splits: dict
    equal: list

    def across_splits(self) -> list[list[tuple]]:
        """Groups of equal images that are in both splits."""
        return [group for group in self.equal if _varies(group, 0)]

    def across_classes(self) -> list[list[tuple]]:
        """Groups of equal images that have different labels."""
        return [group for group in self.equal if _varies(group, 1)]


def _varies(group, column):
    """Whether not all of a group have the same in a column."""
    return len({each[column] for each in group}) > 1


def scan(source: Source) -> Findings:
    """Reads and decodes every image of a `Source`; shows progress.

    Returns:
        `Findings`; bad images are in `source.bad`.
    """
    splits, hashes = {}, {}
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for name, records in (("train", source.train), ("eval", source.held_out)):
            splits[name] = Split()
            shown = iter(progress.bar(name, records.count, iterable=examples(records)))
            while some := list(itertools.islice(shown, AT_ONCE)):
                for one, seen in zip(some, pool.map(_look, some)):
                    _count(source, name, splits[name], hashes, one, seen)
    return Findings(splits, [sorted(group) for group in hashes.values() if len(group) > 1])


def _count(source, name, found, hashes, one, seen):
    """Adds an example, and what was seen in it, to the findings."""
    number, encoded, label = one
    fault, digest, shape = seen
    records = source.records(name)
    found.images += 1
    if fault or not 0 <= label < source.num_labels:
        source.bad.examine(name, records, number)
        return
    found.bytes += len(encoded)
    found.classes.update(source.classes_of(label))
    found.sides.append(shape)
    hashes.setdefault(digest, []).append((name, label, records.name(number)["key"]))


def examples(records: Records) -> Iterator[tuple[int, bytes, int]]:
    """Yields (record, bytes of the image, label) in their order; b"" where it fails."""

    @tf.autograph.experimental.do_not_convert
    def load(number, raw):
        return number, *or_else(
            lambda: records.load(number, raw), lambda: (tf.constant(""), tf.constant(-1, tf.int64))
        )

    dataset = batches.in_order(records).unbatch().map(load, os.cpu_count()).prefetch(AT_ONCE)
    for number, encoded, label in untuned(dataset).as_numpy_iterator():
        yield int(number), encoded, int(label)


def _look(one):
    """Returns (what is wrong, hash, (height, width)) of an example."""
    encoded = one[1]
    fault, shape = bad_images.fault(encoded), None
    if not fault:
        shape = tuple(decoding.shape_of(tf.constant(encoded)).numpy())
    return fault, hashlib.sha256(encoded).digest()[:16], shape


def table(source: Source, findings: Findings) -> list[str]:
    """Returns the findings as lines for people."""
    lines = [f"{'':6} {'images':>10} {'bad':>6} {'short side':>18} {'kB each':>8}"]
    for name, found in findings.splits.items():
        short = sorted(min(shape) for shape in found.sides) or [0]
        sides = f"{short[0]}..{short[len(short) // 2]}..{short[-1]}"
        lines.append(
            f"{name:6} {found.images:>10,} {source.bad.count(name):>6,} {sides:>18} "
            f"{found.bytes / max(1, len(short)) / 1000:>8.1f}"
        )
    lines += [
        "short side: smallest..median..largest, in pixels",
        "",
        *_classes(source, findings.splits),
        "",
        *_repeated("in both splits: evaluation knows them from training", findings.across_splits()),
        *_repeated("in several classes", findings.across_classes()),
    ]
    again = sum(len(group) - 1 for group in findings.equal)
    if again:
        lines.append(f"{again:,} image(s) are copies of another one.")
    return lines + _bad(source.bad.entries)


def _bad(entries):
    """Lines on the first bad images."""
    lines = []
    for entry in entries[: bad_images.SHOWN]:
        lines.append(f"bad: {entry['split']} {entry['key']}: {entry['reason']}")
    more = len(entries) - bad_images.SHOWN
    if more > 0:
        lines.append(f"... and {more:,} more bad ones")
    return lines


def _classes(source, splits):
    """Images per class; of many classes, of the smallest and the largest."""
    train, held_out = (found.classes for found in splits.values())
    labels = sorted(range(len(source.class_names)), key=lambda label: train[label])
    if len(labels) > SHOWN_CLASSES:
        half = SHOWN_CLASSES // 2
        yield f"{len(labels):,} classes; the {half} smallest and largest:"
        labels = labels[:half] + labels[-half:]
    for label in labels:
        name = printable(source.class_names[label])
        counts = f"{train[label]:>10,} train {held_out[label]:>8,} eval"
        yield f"{counts}  {name}{_lacking(train[label], held_out[label])}"


def _lacking(train, held_out):
    """What is said of a class without images to train on or to evaluate on."""
    if not train:
        return "   <- none to train on"
    if not held_out:
        return "   <- none held out"
    return ""


def _repeated(what, groups):
    if groups:
        listed = "; ".join(map(_equation, groups[:5]))
        yield f"{len(groups):,} image(s) are {what}: {listed}"


def _equation(group):
    """Equal images: "train a.jpg = eval b.jpg"."""
    return " = ".join(f"{split} {key}" for split, _, key in group)


def contact_sheet(source: Source, recipe: Recipe, path: str) -> bool:
    """Draws some training images: as evaluation would see them, and augmented some times.

    Returns:
        Whether it was drawn: there may be nothing to draw, or no matplotlib.
    """
    images, captions = [], []
    for row in range(ROWS):
        first, end = (source.train.count * part // ROWS for part in (row, row + 1))
        for number in range(first, end):
            try:
                some, label = _drawn(source.train, recipe, number, row)
            except tf.errors.OpError:
                continue  # the scan has named it
            images += some
            caption = f"label {label}"
            if 0 <= label < source.num_labels:
                caption = source.label_name(label)
            captions += [caption, *[""] * DRAWS]
            break
    return plots.predictions(images, captions, [None] * len(images), path)


def _drawn(records, recipe, number, row):
    """Returns ([the evaluation image, training images], label) of a record."""
    size, held_out = recipe.train_size(), recipe.resolved_variant().resolution
    encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
    plain = EvaluationCrop.of_recipe(recipe, held_out).rounded(encoded)
    drawn = [batches.draw(recipe, encoded, size, row * DRAWS + draw) for draw in range(DRAWS)]
    return [image.numpy() for image in (plain, *drawn)], int(label)
