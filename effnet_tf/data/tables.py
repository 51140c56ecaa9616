"""What does a CSV or JSONL file of image paths and labels say?"""

import csv
import dataclasses
import json
import os

import tensorflow as tf

from effnet_tf.errors import InputError

COLUMNS = ("path", "label")


@dataclasses.dataclass(frozen=True)
class Row:
    """One image: its path, its label, its split if the table has any, its path as written."""

    path: str
    label: int
    split: str | None
    name: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Class names and `Row`s of a table."""

    class_names: tuple[str, ...]
    rows: tuple[Row, ...]


def read(path):
    """Reads a table with the columns path, label and, optionally, split.

    Labels are class names; classes are in alphabetical order, or in that of the numbers if
    all labels are whole numbers. Paths are relative to the table.

    Args:
        path: of a .csv file whose first line names the columns, or of a .jsonl file.

    Raises:
        InputError: no such file, a missing column, or a row without path or label.
    """
    if not path or tf.io.gfile.isdir(path) or not tf.io.gfile.exists(path):
        raise InputError(f"--dataset table needs --data_dir, a .csv or .jsonl file; '{path}' is "
                         "none.")
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")  # Excel writes a mark
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' is no UTF-8 text ({error}): save it as such.") from error
    lines = list((_jsonl if path.endswith(".jsonl") else _csv)(path, text))
    if not lines:
        raise InputError(f"'{path}' has no rows.")
    for number, line in lines:
        if any(line.get(column) in (None, "") for column in COLUMNS):
            raise InputError(f"'{path}', line {number}: path and label are needed, there is "
                             f"{line}.")
    labels = {line["label"] for _, line in lines}
    whole = all(label.isdecimal() for label in labels)
    names = sorted(labels, key=(lambda label: (int(label), label)) if whole else None)
    numbers = {name: number for number, name in enumerate(names)}
    return Table(tuple(names), tuple(
        Row(_place(path, line["path"]), numbers[line["label"]], line.get("split") or None,
            line["path"]) for _, line in lines))


def _place(table, path):
    return path if "://" in path else os.path.join(os.path.dirname(table), path)


def _csv(path, text):
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"'{path}' has no column {' and no column '.join(missing)}; its first "
                         f"line must name them, and is '{text.splitlines()[0] if text else ''}'.")
    for row in reader:
        yield reader.line_num, _stripped(row)


def _jsonl(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, _stripped(dict(json.loads(line)))
            except (ValueError, TypeError) as error:
                raise InputError(f"'{path}', line {number}, is no JSON object: {error}.") from error


def _stripped(row):
    return {name: None if value is None else str(value).strip() for name, value in row.items()}
