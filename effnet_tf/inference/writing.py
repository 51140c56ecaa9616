"""How are predictions written, a line each: for people, as CSV, as JSON?"""

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TextIO

from effnet_tf.data.cells import SEPARATORS
from effnet_tf.errors import InputError, SaveError, first_line, printable
from effnet_tf.inference.predicting import Prediction

STDOUT = "-"
Writer = Callable[[Prediction], None]


def for_people(prediction: Prediction) -> None:
    """Prints "photo.jpg: cat 97.1%, dog 2.9%", or "nothing", or why it cannot be used."""
    image = printable(prediction.image)
    if prediction.fault is not None:
        print(f"{image}: cannot be used: {printable(prediction.fault)}")
        return
    pairs = zip(prediction.classes, prediction.probabilities)
    told = [f"{printable(name)} {chance:.1%}" for name, chance in pairs]
    print(f"{image}: {', '.join(told) or 'nothing'}")


def as_csv(file: TextIO, top: int) -> Writer:
    """Returns what writes a row for each image; the first row names the columns.

    Args:
        file: where to.
        top: classes of each image.
    """
    writer = csv.writer(file, lineterminator="\n")
    columns = []
    for rank in range(1, top + 1):
        columns += [f"class_{rank}", f"probability_{rank}"]
    writer.writerow(["image", *columns, "fault"])

    def write(prediction: Prediction) -> None:
        cells: list[str] = []
        for name, chance in zip(prediction.classes, prediction.probabilities):
            cells += [name, f"{chance:.6f}"]
        cells += [""] * (2 * top - len(cells))
        writer.writerow([prediction.image, *cells, prediction.fault or ""])

    return write


def as_csv_of_several(file: TextIO, names: Sequence[str]) -> Writer:
    """Returns what writes a row for each image, with all names that it is given in one cell.

    Args:
        file: where to.
        names: of the classes: what stands between names is in none of them, where possible.
    """
    held = "".join(names)
    between = next((mark for mark in SEPARATORS if mark not in held), SEPARATORS[0])
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["image", "labels", "probabilities", "fault"])

    def write(prediction: Prediction) -> None:
        chances = between.join(f"{chance:.6f}" for chance in prediction.probabilities)
        labels = between.join(prediction.classes)
        writer.writerow([prediction.image, labels, chances, prediction.fault or ""])

    return write


def as_json(file: TextIO) -> Writer:
    """Returns what writes a JSON object for each image, one per line (JSON Lines)."""

    def write(prediction: Prediction) -> None:
        pairs = zip(prediction.classes, prediction.probabilities)
        row = {
            "image": prediction.image,
            "predictions": [{"class": name, "probability": chance} for name, chance in pairs],
            "fault": prediction.fault,
        }
        file.write(json.dumps(row) + "\n")

    return write


@contextlib.contextmanager
def opened(path: str, printed: TextIO) -> Iterator[TextIO]:
    """Opens a file that appears whole or not at all.

    Args:
        path: of the file; `STDOUT` is `printed`.
        printed: standard output.

    Raises:
        InputError: there is no folder for it, or it is one.
        SaveError: it cannot be written.
    """
    if path == STDOUT:
        yield printed
        return
    # Names of files are bytes: they come out as they went in.
    with _whole(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield file


@contextlib.contextmanager
def opened_binary(path: str) -> Iterator[BinaryIO]:
    """As `opened`, a file of bytes."""
    with _whole(path, "wb") as file:
        yield file


@contextlib.contextmanager
def _whole(path, mode, **text):
    """Opens a file under another name, and gives it its own at the end."""
    check_place(path)
    temporary = f"{path}.tmp"
    with _told(path):
        file = open(temporary, mode, **text)
    try:
        with file:
            yield file
        with _told(path):
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise


@contextlib.contextmanager
def _told(path):
    try:
        yield
    except OSError as error:
        raise SaveError(f"'{path}' cannot be written: {first_line(error)}.") from error


def check_place(path: str) -> None:
    """Refuses a place for a file at the door.

    Raises:
        InputError: there is no folder for it, or it is one.
    """
    if os.path.isdir(path):
        raise InputError(f"'{path}' is a folder; give the name of a file.")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise InputError(f"There is no folder for '{path}': make it, or choose another place.")
