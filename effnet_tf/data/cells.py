"""Which classes do the cells of a table's column `label` name: one each, or any number?

What stands in a cell becomes a label: of one name the number of its class, of several the number
of their combination.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from effnet_tf.errors import InputError, printable
from effnet_tf.messages import log

SEPARATORS = ("|", ";", ",")  # the first that is in any cell of a table separates its names
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?|[+-]?\d+e[+-]?\d+", re.IGNORECASE)
Cell = str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True)
class Labels:
    """What the cells of a table say.

    Attributes:
        class_names: in the order of the classes.
        labels: of each cell: a class, or a row of `sets`.
        sets: (combinations, classes) bool, which classes a label means; None: each one.
        names: what each label is called.
    """

    class_names: tuple[str, ...]
    labels: list[int]
    sets: np.ndarray | None
    names: tuple[str, ...]


def together(names: Iterable[str]) -> str:
    """Returns what a combination of classes is called: "cat + dog"; "nothing" of none."""
    return " + ".join(names) or "nothing"


def of_one(path: str, cells: Sequence[tuple[int, str]], num_classes: int | None) -> Labels:
    """Returns the labels of cells that hold the name of one class each.

    Args:
        path: of the table, for messages.
        cells: (line, what it says), not empty.
        num_classes: that somebody said; as of `tables.read`.

    Raises:
        InputError: measurements, names of single images, or several names in a cell.
    """
    counts = collections.Counter(cell for _, cell in cells)
    if num_classes != len(counts):
        _check_names(path, cells, len(cells))
        _check_one_each(path, cells, counts)
    names = _in_order(counts)
    numbers = {name: number for number, name in enumerate(names)}
    return Labels(tuple(names), [numbers[cell] for _, cell in cells], None, tuple(names))


def of_several(path: str, cells: Sequence[tuple[int, Cell]], num_classes: int | None) -> Labels:
    """Returns the labels of cells that hold any number of names; says what was read.

    Args:
        path: of the table, for messages.
        cells: (line, what it says): text, in which one of `SEPARATORS` stands between names, a
            tuple of names, or None where there is none.
        num_classes: that somebody said; as of `tables.read`.

    Raises:
        InputError: no cell holds a name, or these are measurements or names of single images.
    """
    mark = separator(cell for _, cell in cells if isinstance(cell, str))
    named = [(number, _names_in(cell, mark)) for number, cell in cells]
    every = [(number, name) for number, names in named for name in names]
    if not every:
        raise InputError(f"'{path}' names no class: the label of every row is empty.")
    classes = _in_order({name for _, name in every})
    if num_classes != len(classes):
        _check_names(path, every, len(cells))
    _tell(path, mark, classes, named)
    numbers = {name: number for number, name in enumerate(classes)}
    found = [tuple(sorted(map(numbers.__getitem__, names))) for _, names in named]
    return _of_sets(classes, found)


def _of_sets(classes, found):
    """Numbers the combinations of classes, each a tuple of numbers."""
    combinations = sorted(set(found))
    places = {each: place for place, each in enumerate(combinations)}
    sets = np.zeros((len(combinations), len(classes)), bool)
    for place, each in enumerate(combinations):
        sets[place, list(each)] = True
    called = [together(map(classes.__getitem__, each)) for each in combinations]
    return Labels(tuple(classes), [places[each] for each in found], sets, tuple(called))


def separator(cells: Iterable[str]) -> str | None:
    """Returns what stands between the names in the cells of a table; None: each holds one."""
    held = set("".join(cells))
    return next((mark for mark in SEPARATORS if mark in held), None)


def _names_in(cell, mark):
    """The different names in a cell, none of which is empty, in alphabetical order."""
    parts = cell or ()
    if isinstance(parts, str) and mark:
        parts = parts.split(mark)
    elif isinstance(parts, str):
        parts = [parts]
    return sorted({part.strip() for part in parts} - {""})


def _tell(path, mark, classes, named):
    each = sum(len(names) for _, names in named) / len(named)
    empty = sum(not names for _, names in named)
    between = ""
    if mark:
        between = f"; '{mark}' stands between names"
    log.info(
        f"'{path}': {len(classes):,} classes, {each:.2f} names per image on average, {empty:,} of "
        f"{len(named):,} images without any{between}"
    )


def _in_order(names):
    """Names in the order of their classes: by number if all are whole numbers."""
    if all(name.isdecimal() and len(name) < 19 for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


# --- what is refused ----------------------------------------------------------------------------


def _check_names(path, named, rows):
    """Refuses names that are no classes: measurements, and names of single images."""
    counts = collections.Counter(name for _, name in named)
    confirm = (
        f"If each of the {len(counts):,} labels is a class, confirm it with --num_classes "
        f"{len(counts)}."
    )
    for number, name in named:
        if _FRACTION.fullmatch(name):
            raise InputError(
                f"'{path}', line {number}: the label {name} is a floating point number, "
                "like a measurement; effnet_tf predicts classes. Give class names or whole "
                "numbers. "
                f"{confirm}"
            )
    once = [name for name, count in counts.items() if count == 1]
    if 2 * len(once) > rows:
        some = ", ".join(printable(name) for name in once[:5])
        raise InputError(
            f"'{path}': {len(once):,} of {rows:,} rows have a label that no other row has "
            f"({some}), as is usual for measurements and image names; a class needs several "
            f"images. {confirm}"
        )


def _check_one_each(path, cells, counts):
    """Refuses cells of several names: each of them stands in other cells, too."""
    mark = separator(counts)
    if mark is None:
        return
    owners = collections.Counter(name for cell in counts for name in _names_in(cell, mark))
    for number, cell in cells:
        names = _names_in(cell, mark)
        if len(names) > 1 and all(owners[name] > 1 for name in names):
            raise InputError(
                f"'{path}', line {number}: the label '{printable(cell)}' is several names, each of "
                "which other rows have, too. Train on several names per image with --labels multi, "
                f"or confirm with --num_classes {len(counts)} that each of the {len(counts):,} "
                "labels is a class of its own."
            )
