"""By what does a run know the images that it began with?

A fingerprint is small and cheap: the names and labels of all images (of record files: how many
records each has), and a digest of the content of some. Where the data lies is no part of it.
"""

import collections
import hashlib
import os
from typing import Any

import numpy as np
import tensorflow as tf

from effnet_tf.data.records import Chosen, Listed
from effnet_tf.data.source import Source

SAMPLE, SAMPLE_REMOTE = 1000, 50  # images per split whose content is looked at
MOST_NAMES = 20_000  # images per split that are kept by name; beyond, one digest per class


def of(source: Source) -> dict[str, Any]:
    """Returns the fingerprint of a `Source`, for JSON.

    Returns:
        {"train": part, "eval": part}; a part is {"names": [[name, label or records], ...] or
        None, "groups": {label: [images, digest]}, "sample": [[number, label, digest], ...]}.
    """
    root = _common_root([source.train, source.held_out])
    return {split: _of_split(source.records(split), root) for split in ("train", "eval")}


def _of_split(records, root):
    rows = _rows(records, root)
    groups = _groups(rows, not isinstance(records, Listed))
    if len(rows) > MOST_NAMES:
        rows = None
    return {"names": rows, "groups": groups, "sample": _sample(records)}


def _rows(records, root):
    """[name, label] of each image; of record files, [name, records] of each file."""
    if isinstance(records, Listed):
        labels = records.labels.tolist()
        return [list(row) for row in zip(_names(records, root), labels)]
    names = [os.path.basename(path) for path in _files(records).paths]
    return [list(row) for row in zip(names, _records_of_each_file(records))]


def _files(records):
    """The `RecordFiles` that records are, or were chosen from."""
    if isinstance(records, Chosen):
        return records.records
    return records


def _records_of_each_file(records):
    if not isinstance(records, Chosen):
        return records.sizes
    files = records.records
    owner = np.searchsorted(files.ends, records.numbers, side="right")
    return np.bincount(owner, minlength=len(files.paths)).tolist()


def _names(records, root):
    """The names of image files; those of images in memory are their numbers."""
    if not records.paths:
        return [str(number) for number in range(records.count)]
    return [os.fsdecode(path)[len(root) :] for path in records.items.numpy()]


def _common_root(splits):
    """The folder that all image files are in, as far as its name is the same; "" for records."""
    paths = []
    for records in splits:
        if not isinstance(records, Listed):
            return ""
        if records.paths:
            paths += records.items.numpy().tolist()
    if not paths:
        return ""
    return os.fsdecode(os.path.commonprefix(paths).rpartition(b"/")[0] + b"/")


def _groups(rows, are_files):
    """{label: [images, digest of their names]}; of record files, all in one group."""
    digests, counts = {}, collections.Counter()
    for name, label in rows:
        group = str(label)
        if are_files:
            group = "files"
        text = f"{name}\n{label}\n".encode("utf-8", "surrogateescape")
        digests.setdefault(group, hashlib.sha256()).update(text)
        counts[group] += 1
    return {group: [counts[group], digest.hexdigest()[:32]] for group, digest in digests.items()}


def _sample(records):
    """[number, label, digest or None] of records spread evenly; none of images in memory."""
    if not records.count or (isinstance(records, Listed) and not records.paths):
        return []
    most = SAMPLE
    if _is_remote(records):
        most = SAMPLE_REMOTE
    numbers = np.unique(np.linspace(0, records.count - 1, min(most, records.count)).astype(int))
    return [[int(number), *_content(records, int(number))] for number in numbers]


def _is_remote(records):
    if isinstance(records, Listed):
        return b"://" in records.items[0].numpy()
    return "://" in _files(records).paths[0]


def _content(records, number):
    """(label, digest) of a record; (None, None) if it cannot be read."""
    try:
        encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
    except tf.errors.OpError:
        return None, None
    return int(label), hashlib.sha256(encoded.numpy()).hexdigest()[:32]


def is_one(value: object) -> bool:
    """Whether a value read from JSON is a fingerprint."""
    try:
        return all(_is_part(value[split]) for split in ("train", "eval"))  # type: ignore[index]
    except (TypeError, KeyError, ValueError, AttributeError):
        return False


def _is_part(part):
    rows, groups = part["names"] or [], part["groups"].values()
    return (
        all(isinstance(name, str) and isinstance(label, int) for name, label in rows)
        and all(isinstance(count, int) and isinstance(digest, str) for count, digest in groups)
        and all(isinstance(number, int) for number, _, _ in part["sample"])
    )
