"""Are these the images that a run began with, and if not, what has changed?

Two fingerprints are compared. Files may be mended: what could not be read, or was listed as
bad, may have other content.
"""

from collections.abc import Collection
from typing import Any

from effnet_tf.data.source import Source
from effnet_tf.messages import log

SHOWN = 3  # examples in a message
HALF = 0.5  # of the looked-at images of a class: if more have changed, they are other images


def differences(
    old: dict[str, Any],
    new: dict[str, Any],
    class_names: tuple[str, ...],
    source: Source,
    bad: Collection[tuple[str, int]] = (),
) -> list[str]:
    """Returns what has changed between two fingerprints, in words; nothing if all is the same.

    Args:
        old: of the run, as `fingerprint.of` returned it.
        new: of the data set as it is now.
        class_names: what the labels are called, in their order.
        source: the `Source` of `new`, for the names of its records.
        bad: (split, number) of records that the run has listed as bad: they may be mended.
    """
    found = []
    for split, what in (("train", "training"), ("eval", "held-out")):
        before, now = old[split], new[split]
        if before["groups"] != now["groups"]:
            found += _other_names(before, now, what, class_names)
        else:
            mended = {number for place, number in bad if place == split}
            sample = _Sample(before["sample"], now["sample"], mended, what)
            found += _other_content(sample, class_names, source.records(split))
    return found


def _examples(names):
    if len(names) > SHOWN:
        return ", ".join([*names[:SHOWN], "..."])
    return ", ".join(names)


def _class(label, class_names):
    if str(label).isdecimal() and int(label) < len(class_names):
        return class_names[int(label)]
    return f"label {label}"


# --- names ------------------------------------------------------------------------------------


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
    parts = (
        ("added", [f"'{name}'" for name in new if name not in old]),
        ("removed", [f"'{name}'" for name in old if name not in new]),
        ("changed", _changed(old, new, "files" in now["groups"], class_names)),
    )
    found = [f"{len(names):,} {what} {verb} ({_examples(names)})" for verb, names in parts if names]
    return found or [f"another order of the {what} images"]


def _changed(old, new, are_files, class_names):
    """The names whose label, or number of records, is another one."""
    both = [name for name in new if name in old and old[name] != new[name]]
    if are_files:
        return [f"'{name}': {old[name]:,} -> {new[name]:,} records" for name in both]
    return [
        f"'{name}': {_class(old[name], class_names)} -> {_class(new[name], class_names)}"
        for name in both
    ]


# --- content ----------------------------------------------------------------------------------


class _Sample:
    """The images whose content was looked at before and now, but for those that were bad.

    Attributes:
        old, new: {number: (label, digest)}.
        both: the numbers that are in both.
        changed: those of them whose label or content is another one.
        what: "training" or "held-out".
    """

    def __init__(self, before, now, mended, what):
        self.old = {number: (label, digest) for number, label, digest in before if digest}
        self.new = {number: (label, digest) for number, label, digest in now if digest}
        self.both = [each for each in self.new if each in self.old and each not in mended]
        self.changed = [each for each in self.both if self.old[each] != self.new[each]]
        self.what = what

    def of_all(self, numbers):
        """How many of all: "5 of 16 training images looked at"."""
        return f"{len(numbers):,} of {len(self.both):,} {self.what} images looked at"

    def relabelled(self):
        """The numbers of images that have another label."""
        return [each for each in self.both if self.old[each][0] != self.new[each][0]]

    def moved(self):
        """{number: label} of images that were those of another class before."""
        owners = {digest: label for label, digest in self.old.values()}
        now = {each: self.new[each] for each in self.changed}
        return {
            each: owners[digest]
            for each, (label, digest) in now.items()
            if owners.get(digest, label) != label
        }

    def is_most_of_a_class(self):
        """Whether more than half of the looked-at images of any class have changed."""
        for label in {self.new[each][0] for each in self.changed}:
            everyone = [each for each in self.both if self.new[each][0] == label]
            theirs = [each for each in self.changed if self.new[each][0] == label]
            if len(theirs) > HALF * len(everyone):
                return True
        return False


def _other_content(sample, class_names, records):
    """Says which looked-at images have other labels or content, unless they were mended."""
    relabelled, moved = sample.relabelled(), sample.moved()
    if relabelled:
        texts = [
            f"{_key(records, each)}: {_class(sample.old[each][0], class_names)} -> "
            f"{_class(sample.new[each][0], class_names)}"
            for each in relabelled
        ]
        return [f"{sample.of_all(relabelled)} have another label ({_examples(texts)})"]
    if moved:
        texts = [
            f"{_key(records, each)} was one of {_class(label, class_names)}"
            for each, label in moved.items()
        ]
        return [
            f"{sample.of_all(moved)} have changed places with those of another class "
            f"({_examples(texts)})"
        ]
    if not sample.changed:
        return []
    names = _examples([_key(records, each) for each in sample.changed])
    if sample.is_most_of_a_class():
        return [f"{sample.of_all(sample.changed)} have other content ({names})"]
    log.info(
        f"{sample.of_all(sample.changed)} have changed since the run began ({names}): "
        "they are taken for repaired files."
    )
    return []


def _key(records, number):
    return records.name(number)["key"]
