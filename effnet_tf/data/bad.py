"""Which examples of a data set cannot be used, and why?"""

import threading

import tensorflow as tf

from effnet_tf import augment
from effnet_tf.config import InputError

# How files begin that people take for images that TensorFlow decodes: offset, bytes, name.
OTHERS = ((8, b"WEBP", "a WebP image"), (4, b"ftyphei", "a HEIC image"),
          (4, b"ftypavif", "an AVIF image"), (0, b"II*\0", "a TIFF image"),
          (0, b"MM\0*", "a TIFF image"), (0, b"%PDF", "a PDF document"),
          (0, b"<svg", "an SVG drawing"), (0, b"<", "text, such as a web page"))
SHOWN = 10  # in a message; the list has all


def fault(encoded):
    """Says in a few words why an image file cannot be used; None: it can.

    Args:
        encoded: bytes.
    """
    if not encoded:
        return "the file is empty"
    try:
        height, width = (int(side) for side in augment.header_shape(tf.constant(encoded)))
        if height * width > augment.MAX_PIXELS:
            return (f"it claims {width:,} x {height:,} pixels; the limit is "
                    f"{augment.MAX_PIXELS:,} in all")
        if height * width:
            augment.decode(encoded)
            return None
    except tf.errors.OpError:
        pass  # named below
    return _named(encoded)


def _named(encoded):
    """Says what a file is that is no good image."""
    for offset, start, name in OTHERS:
        if encoded[offset:offset + len(start)] == start:
            return f"it is {name}: JPEG, PNG, BMP or GIF is needed"
    if encoded[:2] in (b"\xff\xd8", b"\x89P", b"GI", b"BM"):
        return f"it is damaged or cut off after {len(encoded):,} bytes"
    return f"it is no image: it begins with {encoded[:8]!r}"


class BadExamples:
    """The bad examples that a process has met, each once; threads may report.

    Attributes:
        entries: list of {"split", "key", "reason"} and, of record files, "shard".
    """

    def __init__(self, class_names):
        self.class_names, self.entries = class_names, []
        self._known, self._counts, self._lock = set(), {}, threading.Lock()

    def add(self, entry):
        """Takes down an entry, once."""
        with self._lock:
            mark = entry["split"], entry["key"]
            if mark not in self._known:
                self._known.add(mark)
                self.entries.append(entry)
                self._counts[mark[0]] = self.count(mark[0]) + entry.get("records", 1)

    def count(self, split):
        """Returns how many examples of "train" or "eval" are bad."""
        return self._counts.get(split, 0)

    def examine(self, split, records, number):
        """Takes down a record that could not be used, with the reason, found by trying again."""
        name = records.name(number)
        self.add({"split": split, **name, "reason": self._reason(records, number)})

    def _reason(self, records, number):
        try:
            encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(""))
        except tf.errors.OpError as error:
            return f"it cannot be read: {str(error).splitlines()[0]}"
        last = len(self.class_names) - 1
        if not 0 <= label <= last:
            return f"its label is {int(label)}; labels are 0 to {last}"
        return fault(encoded.numpy()) or "it could be read when it was tried again"


class TooManyBad(InputError):
    """So many examples are bad that training should not go on."""


def check(source, max_fraction, path=None):
    """Raises TooManyBad if more than a fraction of a split's images are bad.

    Args:
        source: a `Source`.
        max_fraction: of the images, in [0, 1].
        path: of the file that lists them, for the message.
    """
    for split, size in (("train", source.num_train), ("eval", source.num_eval)):
        if source.bad.count(split) > max_fraction * size:
            entries = [entry for entry in source.bad.entries if entry["split"] == split]
            more = f"; and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
            listed = "; ".join(f"{entry['key']}: {entry['reason']}" for entry in entries[:SHOWN])
            raise TooManyBad(
                f"{source.bad.count(split)} of {size:,} {split} images cannot be used, more than "
                f"--max_bad_fraction {max_fraction:g}: {listed}{more}. "
                f"{f'All are in {path}. ' if path else ''}Mend or remove them, or allow more.")
