"""What is kept of every training of a search, so that it can go on, and be computed again?

A CSV file with one row for each training. It is written whole after every job, sorted: a search
that was interrupted, wherever, ends with the file of one that was not.
"""

import csv
import dataclasses
import io
import os
import typing
from collections.abc import Iterable

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line, printable
from effnet_tf.search.candidates import Candidate

MOST_BYTES = 1 << 26


@dataclasses.dataclass(frozen=True, order=True)
class Row:
    """One training.

    Attributes:
        rung: why it was run: "0", "1", ... of halving; "random"; "final".
        candidate: name of the network.
        fold: which part of the images was held out.
        seed: of weights, order and masks.
        epochs: of the training.
        accuracy: share of the held-out images that was classified correctly.
        depth: factor on the base's depth.
        width: factor on the base's width.
        resolution: factor on the base's side.
        axes: what differs from the base, such as "depth+width"; "" for the base itself.
        multiply_adds: counted.
        params: counted.
    """

    rung: str
    candidate: str
    fold: int
    seed: int
    epochs: int
    accuracy: float
    depth: float
    width: float
    resolution: float
    axes: str
    multiply_adds: int
    params: int


FIELDS = tuple(field.name for field in dataclasses.fields(Row))


class Training(typing.NamedTuple):
    """What the accuracy is a function of, but for the settings that a whole search shares."""

    candidate: str
    fold: int
    seed: int
    epochs: int


def row_of(
    candidate: Candidate, rung: str, fold: int, seed: int, epochs: int, accuracy: float
) -> Row:
    """Returns the row of one training of a candidate."""
    return Row(
        rung=rung,
        candidate=candidate.name,
        fold=fold,
        seed=seed,
        epochs=epochs,
        accuracy=accuracy,
        depth=candidate.depth,
        width=candidate.width,
        resolution=candidate.resolution,
        axes="+".join(candidate.axes),
        multiply_adds=candidate.multiply_adds,
        params=candidate.params,
    )


class Table:
    """The trainings of a search, in memory and in its file.

    Args:
        path: of the CSV file; None: in memory only.

    Raises:
        InputError: there is a file that is no such table.
    """

    def __init__(self, path: str | None = None):
        self._path = path
        self._rows: dict[Training, Row] = {}
        if path is not None and os.path.exists(path):
            for row in read(path):
                self._rows[_training(row)] = row

    @property
    def rows(self) -> list[Row]:
        """All rows, sorted."""
        return sorted(self._rows.values())

    def __contains__(self, training: Training) -> bool:
        return training in self._rows

    def accuracy(self, training: Training) -> float:
        """Returns what a training gave; KeyError if it has not been run."""
        return self._rows[training].accuracy

    def add(self, rows: Iterable[Row]) -> None:
        """Takes rows in, and writes the file."""
        for row in rows:
            self._rows[_training(row)] = row
        if self._path is not None:
            local_files.write(self._path, to_csv(self.rows).encode("utf-8"))


def _training(row):
    return Training(row.candidate, row.fold, row.seed, row.epochs)


def to_csv(rows: Iterable[Row]) -> str:
    """Returns rows as the text of a CSV file, numbers with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(dataclasses.astuple(row) for row in rows)
    return text.getvalue()


def read(path: str) -> list[Row]:
    """Reads a table.

    Raises:
        InputError: it cannot be read, or is none; says which line is wrong.
    """
    where = f"The table '{printable(path)}'"
    try:
        text = local_files.read(path, MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {first_line(error)}.") from error
    lines = csv.reader(io.StringIO(text))
    header = next(lines, [])
    if tuple(header) != FIELDS:
        raise InputError(f"{where} must begin with the columns {', '.join(FIELDS)}.")
    return [_row(line, f"Line {number} of {where.lower()}") for number, line in enumerate(lines, 2)]


def _row(line, where):
    hints = typing.get_type_hints(Row)
    try:
        values = [hints[name](text) for name, text in zip(FIELDS, line, strict=True)]
    except ValueError as error:
        raise InputError(f"{where} is not one of this table: {first_line(error)}.") from error
    return Row(*values)
