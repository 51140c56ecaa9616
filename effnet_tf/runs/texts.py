"""What do the text files of a run say?

A file that cannot be used (not JSON, of other types, not UTF-8, far too large, a named pipe)
is an InputError that names it and says what to do.
"""

import csv
import io
import json
import math
import os
import reprlib
import types
import typing

import tensorflow as tf

from effnet_tf import programs, storage
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError, first_line
from effnet_tf.recipes import Recipe

MOST = 1 << 26  # bytes
# What to do about a damaged file.
COPY = "restore it from a copy, or choose another --workdir"
NAMES = "write the class names into it as a JSON list, in the order of the labels"
ANEW = "remove it, and the same command writes it anew"
LINES = "remove it, or its damaged lines"


class Damaged(InputError):
    """A file of a run has been changed or damaged since it was written."""

    def __init__(self, path: str, why: str, remedy: str) -> None:
        super().__init__(f"'{path}' is damaged ({why}): {remedy}.")


def read_text(path: str, remedy: str = COPY) -> str:
    """Returns the text of a file, local or gs://; `remedy` says what to do if it is damaged."""
    try:
        return storage.read_bytes(path, MOST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(path, f"it is not UTF-8 text: byte {error.start:,}", remedy) from error
    except (tf.errors.OpError, OSError) as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error


def read_json(path: str, remedy: str) -> object:
    """Returns what a JSON file says."""
    return _parsed(path, read_text(path, remedy), remedy)


def _parsed(path, text, remedy):
    try:
        return storage.parse_json(text)
    except ValueError as error:
        raise Damaged(path, first_line(error), remedy) from error


def read_rows(path: str) -> list[dict]:
    """Returns the dicts of a file of JSON lines; none if there is no such file."""
    if not storage.exists(path):
        return []
    rows = []
    for number, line in enumerate(read_text(path, LINES).split("\n"), 1):
        if line.strip():
            rows.append(_parsed(path, line, LINES))
            if not isinstance(rows[-1], dict):
                raise Damaged(path, f"line {number} is not a JSON object", LINES)
    return rows


def read_metrics(path: str) -> list[dict]:
    """Returns the rows of metrics.jsonl, one per epoch."""
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        for name in ("step", "epoch", "eval_accuracy", "eval_images", *row):
            kinds = (int,) if name in ("step", "epoch") else (int, float)
            if type(row.get(name)) not in kinds:
                raise Damaged(path, f"row {number} has the {name} {_short(row.get(name))}", LINES)
    return rows


def csv_of(rows: list[dict]) -> str:
    """Returns the rows of metrics.jsonl as a table, with a column for every name in them."""
    names = dict.fromkeys(name for row in rows for name in row)
    content = io.StringIO()
    table = csv.DictWriter(content, list(names), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return content.getvalue()


def read_bad(path: str, source: Source) -> list[dict]:
    """Returns the rows of bad_examples.jsonl: images of a `Source` that could not be used."""
    rows = read_rows(path)
    for number, row in enumerate(rows, 1):
        if not _is_bad_row(row, source):
            raise Damaged(
                path,
                f"row {number} names no image of the data set: {_short(row)}",
                "remove it, and the images are checked again",
            )
    return rows


def _is_bad_row(row, source):
    if row.get("split") not in ("train", "eval"):
        return False
    texts = all(isinstance(row.get(name), str) for name in ("key", "reason"))
    numbers = [row[name] for name in ("record", "records") if name in row]
    if not texts or not all(type(number) is int and number >= 0 for number in numbers):
        return False
    return row.get("record", -1) < source.records(row["split"]).count


def classes_text(source: Source) -> str:
    """Returns the text of classes.json: a list of names, with the kind of labels if several."""
    names = list(source.class_names)
    if source.label_sets is None:
        return json.dumps(names) + "\n"
    return json.dumps({"labels": "multi", "names": names}) + "\n"


def read_classes(path: str) -> tuple[str, ...]:
    """Returns the class names in classes.json."""
    names = read_json(path, NAMES)
    if isinstance(names, dict):  # of several names per image
        names = names.get("names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise Damaged(path, f"it holds {_short(names)} instead of names", NAMES)
    return tuple(names)


def read_source(path: str) -> dict:
    """Returns what source.json says of the data set; all but its fingerprint is checked."""
    found = read_json(path, ANEW)
    if not isinstance(found, dict) or not all(
        type(found.get(name)) is int for name in ("num_train", "num_eval")
    ):
        raise Damaged(path, f"it holds {_short(found)} instead of the numbers of images", ANEW)
    return found


def read_recipe(path: str) -> Recipe:
    """Returns the recipe in recipe.json."""
    text = read_text(path)
    values = _parsed(path, text, COPY)
    if not isinstance(values, dict):
        raise Damaged(path, f"it holds {_short(values)} instead of a recipe", COPY)
    for name, kind in typing.get_type_hints(Recipe).items():
        if name in values and not _is_of(values[name], kind):
            raise Damaged(path, f"{name} is {_short(values[name])}", COPY)
    try:
        return Recipe.from_json(text)
    except InputError as error:
        raise InputError(f"'{path}' cannot be used: {error}") from error


def read_history(path: str) -> list[dict]:
    """Returns how the run of a recipe.json was extended; [] if it was not."""
    values = _parsed(path, read_text(path), COPY)
    if not isinstance(values, dict):
        raise Damaged(path, f"it holds {_short(values)} instead of a recipe", COPY)
    found = values.get("history", [])
    if not isinstance(found, list) or not all(map(_is_extension, found)):
        raise Damaged(path, f"its history is {_short(found)}", COPY)
    return found


def _is_extension(entry):
    if not isinstance(entry, dict) or not isinstance(entry.get("changed"), list):
        return False
    return type(entry.get("step")) is int and all(
        isinstance(text, str) for text in entry["changed"]
    )


def _is_of(value, kind):
    """Whether a value of JSON is of a type such as `int | None`."""
    if isinstance(kind, types.UnionType):
        return any(_is_of(value, each) for each in typing.get_args(kind))
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, float) and math.isfinite(value) or _is_of(value, int)
    if kind is int:
        return isinstance(value, int) and abs(value) < 2**63
    return isinstance(value, kind)


def _short(value):
    return reprlib.repr(value)  # of any depth and length


def read_run(workdir: str) -> tuple[Recipe, tuple[str, ...]]:
    """Returns the (`Recipe`, class names) of a run directory.

    Raises:
        InputError: `workdir` is not a run directory, or these are damaged.
    """
    storage.check_place(workdir, "--workdir")
    paths = [os.path.join(workdir, name) for name in ("recipe.json", "classes.json")]
    for path in paths:
        if not storage.exists(path):
            raise InputError(
                f"'{workdir}' is not a run directory: it has no "
                f"{os.path.basename(path)}. Train one: "
                + programs.as_called("python train_tpu.py --workdir ...")
            )
    return read_recipe(paths[0]), read_classes(paths[1])
