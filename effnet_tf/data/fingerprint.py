"""Are these the images that a run began with, and if not, what has changed?

A fingerprint is small and cheap: the names and labels of all images (of record files: how many
records each has), and a digest of the content of some. Where the data lies is no part of it.
Files may be mended: what could not be read, or was listed as bad, may have other content.
"""

import hashlib
import os

import numpy as np
import tensorflow as tf

SAMPLE, SAMPLE_REMOTE = 1000, 50  # images per split whose content is looked at
MOST_NAMES = 20_000  # images per split that are kept by name; beyond, one digest per class
SHOWN = 3  # examples in a message
HALF = 0.5  # of the looked-at images of a class: if more have changed, they are other images


def of(source) -> dict:
    """Returns the fingerprint of a `Source`, for JSON."""
    root = _common_root([source.train, source.held_out])
    return {split: _of_split(source.records(split), root) for split in ("train", "eval")}


def _of_split(records, root):
    names, labels = _names(records, root), getattr(records, "labels", None)
    if labels is None:  # record files: their names, and how many records are in each
        ends = np.asarray(records.ends).tolist()
        rows = [[name, end - start] for name, start, end in zip(names, [0, *ends], ends)]
    else:
        rows = [[name, int(label)] for name, label in zip(names, labels)]
    known = len(rows) <= MOST_NAMES
    return {
        "names": rows if known else None,
        "groups": _groups(rows, labels is None),
        "sample": _sample(records),
    }


def _names(records, root):
    """The names of image files or record files; of images in memory there are none."""
    if hasattr(records, "labels") and not records.paths:
        return [str(number) for number in range(records.count)]
    return [os.fsdecode(path)[len(root) :] for path in _paths(records)]


def _paths(records):
    """The paths of image files, or the base names of record files, as bytes."""
    if hasattr(records, "labels"):
        return records.items.numpy().tolist() if records.paths else []
    return [os.path.basename(os.fsencode(path)) for path in records.paths]


def _common_root(splits):
    """The folder that all image files are in, as far as its name is the same; "" for records."""
    if not all(getattr(records, "labels", None) is not None for records in splits):
        return ""
    paths = [path for records in splits for path in _paths(records)]
    return os.fsdecode(os.path.commonprefix(paths).rpartition(b"/")[0] + b"/") if paths else ""


def _groups(rows, are_files):
    """{label: [images, digest of their names]}; of record files, all in one group."""
    digests, counts = {}, {}
    for name, label in rows:
        group = "files" if are_files else str(label)
        text = f"{name}\n{label}\n".encode("utf-8", "surrogateescape")
        digests.setdefault(group, hashlib.sha256()).update(text)
        counts[group] = counts.get(group, 0) + 1
    return {group: [counts[group], digest.hexdigest()[:32]] for group, digest in digests.items()}


def _sample(records):
    """[number, label, digest or None] of records spread evenly; none of images in memory."""
    if hasattr(records, "labels") and not records.paths or not records.count:
        return []
    paths = (
        records.paths
        if not hasattr(records, "labels")
        else [records.items[0].numpy().decode("utf-8", "replace")]
    )
    most = SAMPLE_REMOTE if "://" in paths[0] else SAMPLE
    numbers = np.unique(np.linspace(0, records.count - 1, min(most, records.count)).astype(int))
    return [[int(number), *_content(records, int(number))] for number in numbers]


def _content(records, number):
    """(label, digest) of a record; (None, None) if it cannot be read."""
    try:
        encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
    except tf.errors.OpError:
        return None, None
    return int(label), hashlib.sha256(encoded.numpy()).hexdigest()[:32]


# --- comparing --------------------------------------------------------------------------------


def differences(old: dict, new: dict, class_names, source, bad=()) -> list[str]:
    """Returns what has changed between two fingerprints, in words; nothing if all is the same.

    Args:
        old: of the run, as `of` returned it.
        new: of the data set as it is now.
        class_names: in the order of the labels.
        source: the `Source` of `new`, for the names of its records.
        bad: (split, number) of records that the run has listed as bad: they may be mended.
    """
    found = []
    for split, what in (("train", "training"), ("eval", "held-out")):
        before, now = old[split], new[split]
        if before["groups"] != now["groups"]:
            found += _other_names(before, now, what, class_names)
        else:
            skipped = {number for place, number in bad if place == split}
            found += _other_content(
                before["sample"], now["sample"], what, class_names, source.records(split), skipped
            )
    return found


def _other_names(before, now, what, class_names):
    """Says which names were added, removed or have another label; or which classes did."""
    if before["names"] is None or now["names"] is None:
        names = [
            _class(label, class_names)
            for label in {**before["groups"], **now["groups"]}
            if before["groups"].get(label) != now["groups"].get(label)
        ]
        return [f"other {what} images of {_examples(names)}"]
    old, new = dict(map(tuple, before["names"])), dict(map(tuple, now["names"]))
    if "files" in now["groups"]:
        changed = [
            f"'{name}': {old[name]:,} -> {new[name]:,} records"
            for name in new
            if name in old and old[name] != new[name]
        ]
    else:
        changed = [
            f"'{name}': {_class(old[name], class_names)} -> {_class(new[name], class_names)}"
            for name in new
            if name in old and old[name] != new[name]
        ]
    parts = (
        ("added", [f"'{name}'" for name in new if name not in old]),
        ("removed", [f"'{name}'" for name in old if name not in new]),
        ("changed", changed),
    )
    return [
        f"{len(names):,} {what} {verb} ({_examples(names)})" for verb, names in parts if names
    ] or [f"another order of the {what} images"]


def _class(label, class_names):
    number = int(label) if str(label).isdecimal() else -1
    return class_names[number] if 0 <= number < len(class_names) else f"label {label}"


def _examples(names):
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _other_content(before, now, what, class_names, records, skipped):
    """Says which looked-at images have other labels or content, unless they were mended."""
    old = {number: (label, digest) for number, label, digest in before if digest}
    new = {number: (label, digest) for number, label, digest in now if digest}
    both = [number for number in new if number in old and number not in skipped]
    name = records.name
    relabelled = [
        f"{name(number)['key']}: {_class(old[number][0], class_names)} -> "
        f"{_class(new[number][0], class_names)}"
        for number in both
        if old[number][0] != new[number][0]
    ]
    if relabelled:
        return [
            f"{len(relabelled):,} of {len(both):,} {what} images looked at have another label "
            f"({_examples(relabelled)})"
        ]
    changed = [number for number in both if old[number] != new[number]]
    owners = {digest: label for label, digest in old.values()}
    moved = [
        number for number in changed if owners.get(new[number][1], new[number][0]) != new[number][0]
    ]
    if moved:
        texts = [
            f"{name(number)['key']} was one of {_class(owners[new[number][1]], class_names)}"
            for number in moved
        ]
        return [
            f"{len(moved):,} of {len(both):,} {what} images looked at have changed places with "
            f"those of another class ({_examples(texts)})"
        ]
    if _is_most_of_a_class(changed, both, new):
        return [
            f"{len(changed):,} of {len(both):,} {what} images looked at have other content "
            f"({_examples([name(number)['key'] for number in changed])})"
        ]
    if changed:
        print(
            f"{len(changed):,} of {len(both):,} {what} images looked at have other content than "
            f"when the run began ({_examples([name(number)['key'] for number in changed])}): "
            "taken for mended files."
        )
    return []


def _is_most_of_a_class(changed, looked_at, new):
    """Whether more than half of the looked-at images of any class have changed."""
    for label in {new[number][0] for number in changed}:
        everyone = [number for number in looked_at if new[number][0] == label]
        theirs = [number for number in changed if new[number][0] == label]
        if len(theirs) > HALF * len(everyone):
            return True
    return False


def is_one(value) -> bool:
    """Whether a value read from JSON is a fingerprint."""
    try:
        for split in ("train", "eval"):
            part = value[split]
            rows = part["names"] or []
            good = (
                all(isinstance(name, str) and isinstance(label, int) for name, label in rows)
                and all(
                    isinstance(count, int) and isinstance(digest, str)
                    for count, digest in part["groups"].values()
                )
                and all(isinstance(number, int) for number, _, _ in part["sample"])
            )
            if not good:
                return False
        return True
    except (TypeError, KeyError, ValueError, AttributeError):
        return False
