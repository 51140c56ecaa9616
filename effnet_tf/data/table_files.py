"""Can the files that a table names be images, and which of its rows are of the same file?"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from effnet_tf import local_files, storage
from effnet_tf.errors import InputError, printable


@dataclasses.dataclass(frozen=True)
class Row:
    """One image: its path, its label, its split if the table has any, and its name.

    The label is the number of a class, or of a combination of classes. The name is the path as it
    is written; of several paths of one file, the first in the alphabet.
    """

    path: str
    label: int
    split: str | None
    name: str


def same(
    path: str, numbers: Sequence[int], rows: Sequence[Row], names: Sequence[str]
) -> dict[str, str]:
    """Returns {path as written: the first of the same file}, where they differ.

    Args:
        path: of the table, for messages.
        numbers: of the rows' lines.
        rows: of the table.
        names: what the labels are called.

    Raises:
        InputError: a place cannot be read, or one file has two labels or is in two splits.
    """
    schemes = {name for name in tf.io.gfile.get_registered_schemes() if name}
    of_file, first = {}, {}
    for number, row in zip(numbers, rows):
        where = f"'{path}', line {number}: '{printable(row.name)}'"
        _check_place(where, row.path, schemes)
        mark: tuple[Any, ...] | str = row.path
        if not storage.is_remote(row.path):
            mark = local_files.identity(row.path)
        before, one = first.setdefault(mark, (number, row))
        if one.label != row.label:
            raise InputError(
                f"{where} has the label '{printable(names[row.label])}', and in line {before} the "
                f"label '{printable(names[one.label])}': an image has one class, or all of its "
                "names in one row (--labels multi)."
            )
        if one.split != row.split:
            raise InputError(
                f"{where} is of the split '{row.split}', and in line {before} of "
                f"'{one.split}': an image belongs to one split."
            )
        of_file.setdefault(mark, set()).add(row.name)
    return {name: min(same) for same in of_file.values() if len(same) > 1 for name in same}


def _check_place(where, path, schemes):
    scheme, is_address, _ = path.partition("://")
    if not is_address:
        fault = local_files.not_an_image(path)
        if fault:
            raise InputError(f"{where} is {fault}; it must be an image file.")
    elif scheme.lower() in ("http", "https", "ftp"):
        raise InputError(f"{where} is a web address: download the images, and give their paths.")
    elif scheme not in schemes:
        raise InputError(f"{where} cannot be reached: this TensorFlow knows no {scheme}://.")
