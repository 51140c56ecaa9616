"""What does a CSV or JSONL file of image paths and labels say?"""

import csv
import dataclasses
import io
import json
import os

import numpy as np
import tensorflow as tf

from effnet_tf import storage
from effnet_tf.data import cells, table_files
from effnet_tf.data.table_files import Row
from effnet_tf.errors import InputError, first_line, printable

COLUMNS = ("path", "label")
PLURAL = "labels"  # what the column of several names may be called, too
MAX_BYTES = 1 << 30  # some ten million rows
MISSING = ("nan", "<na>", "#n/a", "null")  # how programs write a label that is not there


@dataclasses.dataclass(frozen=True)
class Table:
    """Class names and `Row`s of a table.

    Where rows may have several names, `label_sets` is (combinations, classes) bool: which classes
    a label means. Else it is None.
    """

    class_names: tuple[str, ...]
    rows: tuple[Row, ...]
    label_sets: np.ndarray | None = None


def read(path: str, num_classes: int | None = None, several: bool = False) -> Table:
    """Reads a table with the columns path, label and, optionally, split.

    Labels are class names; classes are in alphabetical order, or in that of the numbers if
    all labels are whole numbers. Paths are relative to the table.

    Args:
        path: of a .csv file whose first line names the columns, or of a .jsonl file.
        num_classes: how many classes there are, if somebody said so: labels that look like
            measurements or names of images are then taken as they are.
        several: whether a row may have any number of names, see cells.py; the column may be called
            `labels` then.

    Raises:
        InputError: no such file, a missing column, or a row that cannot be used.
    """
    lines = list(_lines(path, several))
    if not lines:
        raise InputError(f"'{path}' has no rows.")
    for number, line in lines:
        _check_row(f"'{path}', line {number}", line, several)
    read_cells = cells.of_one
    if several:
        read_cells = cells.of_several
    found = read_cells(path, [(number, line.get("label")) for number, line in lines], num_classes)
    rows = tuple(
        Row(_place(path, line["path"]), label, line.get("split") or None, line["path"])
        for (_, line), label in zip(lines, found.labels)
    )
    same = table_files.same(path, [number for number, _ in lines], rows, found.names)
    return Table(
        found.class_names,
        tuple(dataclasses.replace(row, name=same.get(row.name, row.name)) for row in rows),
        found.sets,
    )


def _lines(path, several):
    """Yields (number, {column: value}) of the rows of a table."""
    text = _text(path)
    read_lines = _csv
    if path.lower().endswith(".jsonl"):
        read_lines = _jsonl
    for number, line in read_lines(path, text, several):
        if several and PLURAL in line:
            line["label"] = line[PLURAL]
        yield number, line


def _text(path):
    if not path or storage.is_folder(path) or not storage.exists(path):
        raise InputError(
            f"--dataset table needs --data_dir, a .csv or .jsonl file; '{path}' is not a file."
        )
    try:
        content = storage.read_bytes(path, MAX_BYTES)
        return content.decode("utf-8-sig")  # Excel writes a mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"'{path}' is not UTF-8 text (line {line}): save it as UTF-8.") from error
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error


def _place(table, path):
    if storage.is_remote(path):
        return path
    return os.path.join(os.path.dirname(table), path)


# --- rows ---------------------------------------------------------------------------------------


def _csv(path, text, several):
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        _check_columns(path, list(reader.fieldnames or ()), text, several)
        for row in reader:
            yield reader.line_num, {name: _stripped(value) for name, value in row.items()}
    except csv.Error as error:
        raise InputError(
            f"'{path}', line {reader.line_num}, cannot be read as CSV: {first_line(error)}."
        ) from error


def _check_columns(path, columns, text, several):
    plural = ""
    if several and PLURAL in columns:
        columns = ["label" if name == PLURAL else name for name in columns]
    elif PLURAL in columns:
        plural = f" (the column {PLURAL} is read with --labels multi)"
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        first = "".join(text.splitlines()[:1])
        raise InputError(
            f"'{path}' has no column {' and no column '.join(missing)}{plural}; its first "
            f"line must name them, separated by commas, and is "
            f"'{printable(first[:200])}'."
        )
    for column in (*COLUMNS, "split"):
        if columns.count(column) > 1:
            raise InputError(f"'{path}' has the column {column} twice.")


def _stripped(value):
    if isinstance(value, str):
        return value.strip()
    return value


def _jsonl(path, text, several):
    wanted = (*COLUMNS, "split")
    if several:
        wanted += (PLURAL,)
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"'{path}', line {number}, is not a JSON object: {first_line(error)}."
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"'{path}', line {number}, is not a JSON object: it is {printable(line[:80])}."
            )
        columns = [name for name in wanted if name in row]
        where = f"'{path}', line {number}"
        yield number, {name: _as_text(where, name, row[name], several) for name in columns}


def _as_text(where, name, value, several):
    """A value of a JSON object as a CSV file would have it; names that are a list, as a tuple."""
    if name != "path" and name != "split" and isinstance(value, list):
        if several:
            return tuple(_as_text(where, "label", each, False) or "" for each in value)
        raise InputError(
            f"{where}: the {name} is {printable(json.dumps(value)[:80])}. Train on several names "
            "per image with --labels multi, or give each image one name."
        )
    if name == "label" and isinstance(value, float):
        raise InputError(
            f"{where}: the label {value} is a floating point number; labels are class "
            "names or whole numbers."
        )
    if value is None or isinstance(value, str):
        return _stripped(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    wanted = "text"
    if name == "label":
        wanted = "text or a whole number"
    raise InputError(
        f"{where}: the {name} is {printable(json.dumps(value)[:80])}; it must be {wanted}."
    )


def _check_row(where, line, several):
    """Raises InputError where a row cannot be used, whatever the others are."""
    if any(value.strip() for value in line.get(None) or ()):
        extra = printable(", ".join(line[None])[:80])
        raise InputError(
            f"{where}: there are more values than columns ('{extra}'). Put double "
            "quotes around a value that holds a comma."
        )
    _check_is_there(where, line, several)
    for column in (*COLUMNS, "split"):
        for value in _texts(line.get(column)):
            if "\0" in value or _is_not_text(value):
                raise InputError(
                    f"{where}: the {column} '{printable(value)}' cannot be the name "
                    "of a file or a class."
                )


def _check_is_there(where, line, several):
    """Raises InputError where a row lacks what it needs; one of no names needs no label."""
    if several and not line.get("path"):
        raise InputError(f"{where}: a row needs a path; this one has {line.get('path')!r}.")
    if not several and any(line.get(column) in (None, "") for column in COLUMNS):
        raise InputError(
            f"{where}: a row needs a path and a label; this one has path "
            f"{line.get('path')!r} and label {line.get('label')!r}."
        )
    missing = [text for text in _texts(line.get("label")) if text.casefold() in MISSING]
    if missing:
        remedy = "Give a label, or remove the row"
        if several:
            remedy = "Leave the label empty if there is nothing in the image, or remove the row"
        raise InputError(
            f"{where}: the label is '{missing[0]}', which programs write for "
            f"a missing value. {remedy}."
        )


def _texts(value):
    """The texts of a cell: itself, several, or none."""
    if isinstance(value, tuple):
        return value
    return (value or "",)


def _is_not_text(value):
    try:
        value.encode("utf-8")
        return False
    except UnicodeEncodeError:
        return True
