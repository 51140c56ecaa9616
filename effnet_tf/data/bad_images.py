"""Which examples of a data set cannot be used, and why?"""

import threading
from typing import Any

import tensorflow as tf

from effnet_tf.data import decoding, headers
from effnet_tf.data.records import Records
from effnet_tf.errors import InputError, first_line

# How files begin that people take for images that TensorFlow decodes: offset, bytes, name.
OTHERS = (
    (4, b"ftyphe", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (4, b"ftypavi", "an AVIF image"),
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop image"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"version https://git-lfs", "a pointer of Git LFS (git lfs pull)"),
    (0, b"<", "text, such as a web page"),
)
NEEDED = "JPEG, PNG, BMP, GIF or WebP is needed"
SHOWN = 10  # in a message; the list has all


def fault(encoded: bytes) -> str | None:
    """Says in a few words why an image file cannot be used; None: it can.

    Args:
        encoded: bytes.
    """
    if not encoded:
        return "the file is empty"
    try:
        height, width = (int(side) for side in decoding.header_shape(tf.constant(encoded)))
        if height * width > decoding.MAX_PIXELS:
            return (
                f"it claims {width:,} x {height:,} pixels; the limit is "
                f"{decoding.MAX_PIXELS:,} in all"
            )
        if height * width:
            shape = decoding.decode(encoded).shape[:2]
            if shape == (height, width):
                return None
            return (
                f"its first frame has {shape[1]} x {shape[0]} pixels, and it says "
                f"{width} x {height}"
            )
    except tf.errors.OpError:
        pass  # named below
    return _named(encoded)


def _named(encoded):
    """Says what a file is that is no good image."""
    for offset, start, name in OTHERS:
        if encoded[offset : offset + len(start)] == start:
            return f"it is {name}: {NEEDED}"
    if _is_webp(encoded) and encoded[12:16] == b"VP8X" and _flags(encoded) & headers.ANIMATED:
        return "it is an animated WebP image: save one of its frames as a still image"
    if _is_webp(encoded) or encoded[:2] in (b"\xff\xd8", b"\x89P", b"GI", b"BM"):
        return f"it is damaged or cut off after {len(encoded):,} bytes"
    return f"it is not an image: it begins with {encoded[:8]!r}"


def _flags(encoded):
    return int.from_bytes(encoded[20:21], "little")  # 0 where it is cut off


def _is_webp(encoded):
    return encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP"


class BadExamples:
    """The bad examples that a process has met, each once; threads may report.

    Args:
        num_labels: how many labels there are, from 0 on.

    Attributes:
        entries: list of {"split", "key", "reason"}; "record", its number; of record files
            "shard"; of a whole file "records", how many are lost.
    """

    def __init__(self, num_labels: int):
        self.num_labels, self.entries = num_labels, []
        self._known, self._lock = set(), threading.Lock()

    def add(self, entry: dict[str, Any]) -> None:
        """Adds an entry, once."""
        with self._lock:
            mark = entry["split"], entry["key"]
            if mark not in self._known:
                self._known.add(mark)
                self.entries.append(entry)

    def count(self, split: str) -> int:
        """Returns how many examples of "train" or "eval" are bad."""
        return _count(self.entries, split)

    def examine(self, split: str, records: Records, number: int, again: bool = False) -> None:
        """Adds a record that could not be used, with the reason, found by trying again.

        Args:
            split: "train" or "eval".
            records: of the split.
            number: of the record.
            again: whether it is no news: then it is left out if it is good by now.
        """
        name = records.name(number)
        if self._knows(split, name["key"]):  # it comes again in every epoch
            return
        reason = self._reason(records, number)
        if reason or not again:
            self.add(
                {
                    "split": split,
                    **name,
                    "record": number,
                    "reason": reason or "it was readable when tried again",
                }
            )

    def _knows(self, split, key):
        with self._lock:
            return (split, key) in self._known

    def _reason(self, records, number):
        try:
            encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
        except tf.errors.OpError as error:
            return _why(error)
        last = self.num_labels - 1
        if not 0 <= label <= last:
            return f"its label is {int(label)}; labels are 0 to {last}{_hint(records)}"
        return fault(encoded.numpy())


def _hint(records):
    if not records.first_label:
        return ""
    return f", after --first_label {records.first_label} was taken off"


def _why(error):
    """Says why a record could not be loaded, without TensorFlow's internals."""
    kinds = (
        (tf.errors.DataLossError, "it is damaged: its checksum is wrong, or it is cut off"),
        (tf.errors.NotFoundError, "the file is missing"),
        (tf.errors.PermissionDeniedError, "permission to read the file is denied"),
    )
    for kind, text in kinds:
        if isinstance(error, kind):
            return text
    text = str(error)
    if "Data types don't match" in text:
        feature = text.partition("Key: ")[2].partition(".  ")[0]
        found = text.partition("Data type: ")[2].split(" ")[0]
        return (
            f"its feature {feature} holds {found} numbers or texts; labels must be int64, "
            "images bytes"
        )
    if "Feature: " in text:
        return "it has no feature " + text.partition("Feature: ")[2].split()[0]
    if "Dataset was empty" in text:
        return "the file ends before this record"
    return f"it cannot be read: {first_line(error)}"


def _count(entries, split):
    return sum(entry.get("records", 1) for entry in entries if entry["split"] == split)


class TooManyBad(InputError):
    """So many examples are bad that training should not go on."""


def check(
    source: Any,
    max_fraction: float,
    path: str | None = None,
    entries: list[dict[str, Any]] | None = None,
) -> None:
    """Raises TooManyBad if more than a fraction of a split's images are bad.

    Args:
        source: a `Source`.
        max_fraction: of the images, lost ones included, in [0, 1].
        path: of the file that lists them, for the message.
        entries: of all hosts; by default, those of the source's `BadExamples`.
    """
    if entries is None:
        entries = source.bad.entries
    for split, records in (("train", source.train), ("eval", source.held_out)):
        some = [entry for entry in entries if entry["split"] == split]
        bad = _count(some, split)
        size = records.count + sum(entry.get("records", 0) for entry in some)
        if bad > max_fraction * size:
            raise TooManyBad(
                f"{bad} of {size:,} {split} images cannot be used, more than --max_bad_fraction "
                f"{max_fraction:g}: {_listed(some, path)} Replace them with good files, or allow "
                "more."
            )


def _listed(entries, path):
    """The first bad images with their reasons, and where all of them are listed."""
    text = "; ".join(f"{entry['key']}: {entry['reason']}" for entry in entries[:SHOWN])
    if len(entries) > SHOWN:
        text += f"; and {len(entries) - SHOWN} more"
    if path:
        return f"{text}. All are in {path}."
    return f"{text}."
