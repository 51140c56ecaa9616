"""What is in a data set, and what is wrong with it, before a week of training?"""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import os

import tensorflow as tf

from effnet_tf import plots, progress
from effnet_tf.data import bad_images, batches, decoding
from effnet_tf.data.crops import EvaluationCrop
from effnet_tf.data.records import or_else
from effnet_tf.errors import printable

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

    def across_splits(self):
        """Groups of equal images that are in both splits."""
        return [group for group in self.equal if len({split for split, _, _ in group}) > 1]

    def across_classes(self):
        """Groups of equal images that have different labels."""
        return [group for group in self.equal if len({label for _, label, _ in group}) > 1]


def scan(source):
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
    if fault or not 0 <= label < len(source.class_names):
        source.bad.examine(name, records, number)
        return
    found.bytes += len(encoded)
    found.classes[label] += 1
    found.sides.append(shape)
    hashes.setdefault(digest, []).append((name, label, records.name(number)["key"]))


def examples(records):
    """Yields (record, bytes of the image, label) in their order; b"" where it fails."""

    @tf.autograph.experimental.do_not_convert
    def load(number, raw):
        return number, *or_else(
            lambda: records.load(number, raw), lambda: (tf.constant(""), tf.constant(-1, tf.int64))
        )

    dataset = batches.in_order(records).unbatch().map(load, tf.data.AUTOTUNE, deterministic=True)
    for number, encoded, label in dataset.prefetch(AT_ONCE).as_numpy_iterator():
        yield int(number), encoded, int(label)


def _look(one):
    """Returns (what is wrong, hash, (height, width)) of an example."""
    encoded = one[1]
    fault = bad_images.fault(encoded)
    shape = None if fault else tuple(decoding.shape_of(tf.constant(encoded)).numpy())
    return fault, hashlib.sha256(encoded).digest()[:16], shape


def table(source, findings):
    """Returns the findings as lines for people."""
    lines = [f"{'':6} {'images':>10} {'bad':>6} {'short side':>18} {'kB each':>8}"]
    for name, found in findings.splits.items():
        short = sorted(min(shape) for shape in found.sides) or [0]
        lines.append(
            f"{name:6} {found.images:>10,} {source.bad.count(name):>6,} "
            f"{f'{short[0]}..{short[len(short) // 2]}..{short[-1]}':>18} "
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
    lines += [f"{again:,} image(s) are copies of another one."] if again else []
    for entry in source.bad.entries[: bad_images.SHOWN]:
        lines.append(f"bad: {entry['split']} {entry['key']}: {entry['reason']}")
    more = len(source.bad.entries) - bad_images.SHOWN
    return lines + ([f"... and {more:,} more bad ones"] if more > 0 else [])


def _classes(source, splits):
    """Images per class; of many classes, of the smallest and the largest."""
    numbers = {
        label: [found.classes[label] for found in splits.values()]
        for label in range(len(source.class_names))
    }
    labels = sorted(numbers, key=lambda label: numbers[label][0])
    if len(labels) > SHOWN_CLASSES:
        half = SHOWN_CLASSES // 2
        yield f"{len(labels):,} classes; the {half} smallest and largest:"
        labels = labels[:half] + labels[-half:]
    for label in labels:
        train, held_out = numbers[label]
        name = printable(source.class_names[label])
        none = (
            ""
            if train and held_out
            else "   <- none" + (" to train on" if not train else " held out")
        )
        yield f"{train:>10,} train {held_out:>8,} eval  {name}{none}"


def _repeated(what, groups):
    if groups:
        listed = "; ".join(
            " = ".join(f"{split} {key}" for split, _, key in group) for group in groups[:5]
        )
        yield f"{len(groups):,} image(s) are {what}: {listed}"


def contact_sheet(source, recipe, path):
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
            known = 0 <= label < len(source.class_names)
            captions += [source.class_names[label] if known else f"label {label}"]
            captions += [""] * DRAWS
            break
    return plots.predictions(images, captions, [None] * len(images), path)


def _drawn(records, recipe, number, row):
    """Returns ([the evaluation image, training images], label) of a record."""
    size = recipe.resolved_variant().resolution
    encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
    plain = EvaluationCrop.of_recipe(recipe, size).rounded(encoded)
    drawn = [batches.draw(recipe, encoded, size, row * DRAWS + draw) for draw in range(DRAWS)]
    return [image.numpy() for image in (plain, *drawn)], int(label)
