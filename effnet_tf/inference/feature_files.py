"""How are features written while they are computed, however many there will be?

As CSV, a row for each image; or as .npy, with the names of the images in a file beside it.
"""

import contextlib
import csv
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.inference import writing
from effnet_tf.inference.embedding import Embedding

Writer = Callable[[Embedding], None]
_HEADER = 128  # bytes of an .npy file before its numbers: a multiple of 64
_MAGIC = b"\x93NUMPY\x01\x00"  # numpy.lib.format: version 1.0
SUFFIXES = (".npy", ".csv")


def files_of(path: str) -> list[str]:
    """Returns the files that are written for --out, the features first.

    Raises:
        InputError: its name ends neither in .npy nor in .csv, or there is no folder for it.
    """
    root, suffix = os.path.splitext(path)
    if suffix.lower() not in SUFFIXES:
        raise InputError(f"'{path}' must end in .npy or .csv: that says how features are written.")
    writing.check_place(path)
    if suffix.lower() == ".csv":
        return [path]
    return [path, f"{root}.names.csv"]


@contextlib.contextmanager
def opened(path: str, width: int) -> Iterator[Writer]:
    """Opens the files of features, which appear whole or not at all.

    Args:
        path: ends in .csv (columns image, feature_0, feature_1, ...), or in .npy: (N, F) float32,
            and beside it NAME.names.csv with the image of each row.
        width: F.

    Yields:
        A function that writes what it is given; a bad image is not written.

    Raises:
        InputError: there is no place for a file.
        SaveError: one cannot be written.
    """
    first, *beside = files_of(path)
    with contextlib.ExitStack() as files:
        table = files.enter_context(writing.opened((beside or [first])[0], sys.stdout))
        rows = csv.writer(table, lineterminator="\n")
        if beside:
            rows.writerow(["image"])
            yield _npy(files.enter_context(_growing(first, width)), rows)
        else:
            rows.writerow(["image", *(f"feature_{number}" for number in range(width))])
            yield _csv(rows)


def _csv(rows):
    def write(embedding):
        if embedding.features is not None:
            # As many digits as tell each float32 from all others.
            rows.writerow([embedding.image, *(f"{value:.9g}" for value in embedding.features)])

    return write


def _npy(append, rows):
    def write(embedding):
        if embedding.features is not None:
            append(embedding.features)
            rows.writerow([embedding.image])

    return write


@contextlib.contextmanager
def _growing(path, width):
    """Yields what appends a row to an .npy file; how many there are is written at the end."""
    with writing.opened_binary(path) as file:
        file.write(bytes(_HEADER))
        count = 0

        def append(row):
            nonlocal count
            file.write(np.asarray(row, "<f4").tobytes())
            count += 1

        yield append
        file.seek(0)
        file.write(_header(count, width))


def _header(count, width):
    """What stands before the numbers of an .npy file, filled up with blanks."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {width}), }}"
    length = _HEADER - len(_MAGIC) - 2
    return _MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
