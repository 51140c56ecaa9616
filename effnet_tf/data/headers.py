"""Where does a PNG, GIF, BMP or WebP file say how wide and how high it is?

Each kind is a row. All rows are read at once and one is chosen: a graph traces branches many
times as slowly as these few sums, and every input pipeline of training holds them twice.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

LENGTH = 30  # bytes that are looked at
ANIMATED = 2  # bit of the flags of a WebP with a canvas
FLAGS = 20  # their place


class Header(NamedTuple):
    """The header of a kind of image files.

    Attributes:
        marks: {place: bytes} by which files of this kind are recognised.
        places: the bytes of the width and those of the height, least significant first.
        shifts: how many bits of these numbers come before those of width and height.
        bits: how many bits width and height have.
        added: what is to be added to both.
        unset: bits of the byte at FLAGS that must not be set.
    """

    marks: dict[int, bytes]
    places: tuple[range, range]
    shifts: tuple[int, int] = (0, 0)
    bits: int = 32
    added: int = 0
    unset: int = 0


def _webp(kind):
    return {0: b"R", 8: b"WEBPVP8" + kind}


HEADERS = (
    Header({0: b"\x89"}, (range(19, 15, -1), range(23, 19, -1))),  # PNG
    Header({0: b"G"}, (range(6, 8), range(8, 10))),  # GIF
    Header({0: b"B"}, (range(18, 22), range(22, 26))),  # BMP
    # WebP (RFC 9649): lossy, lossless, and with a canvas.
    Header(_webp(b" "), (range(26, 28), range(28, 30)), bits=14),
    Header(_webp(b"L"), (range(21, 25), range(21, 25)), (0, 14), bits=14, added=1),
    Header(_webp(b"X"), (range(24, 27), range(27, 30)), added=1, unset=ANIMATED),
)


def _patterns():
    """Returns which bits tell the kinds apart, and which of them are set: 2 of (kinds, LENGTH)."""
    masks, values = np.zeros((2, len(HEADERS), LENGTH), np.int64)
    for row, header in enumerate(HEADERS):
        masks[row, FLAGS] = header.unset
        for place, mark in header.marks.items():
            masks[row, place : place + len(mark)] = 255
            values[row, place : place + len(mark)] = list(mark)
    return masks, values


def _powers():
    """Returns what each byte counts for in width and height: (kinds, 2, LENGTH) int64."""
    powers = np.zeros((len(HEADERS), 2, LENGTH), np.int64)
    for row, header in enumerate(HEADERS):
        for side, places in enumerate(header.places):
            powers[row, side, places] = 256 ** np.arange(len(places))
    return powers


def shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width of an image file: () string -> (2,) int32.

    (0, 0) where it is none of these kinds, and where it is an animated WebP.
    """
    header = tf.io.decode_raw(tf.strings.substr(encoded, 0, LENGTH), tf.uint8)
    header = tf.cast(tf.pad(header, [[0, LENGTH - tf.size(header)]]), tf.int64)
    header = tf.ensure_shape(header, (LENGTH,))
    masks, values = _patterns()
    is_it = tf.reduce_all(tf.bitwise.bitwise_and(header, masks) == values, 1)
    numbers = tf.reduce_sum(header * _powers(), 2)
    shifts = tf.constant([kind.shifts for kind in HEADERS], tf.int64)
    numbers = tf.bitwise.right_shift(numbers, shifts)
    sides = numbers % [[2**kind.bits] for kind in HEADERS] + [[kind.added] for kind in HEADERS]
    width_height = tf.reduce_sum(tf.where(is_it[:, tf.newaxis], sides, 0), 0)
    # The height of a BMP that begins at the top is negative.
    return tf.abs(tf.cast(width_height, tf.int32))[::-1]
