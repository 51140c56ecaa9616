"""What does a CSV or JSONL file of image paths and labels say?"""

import collections
import csv
import dataclasses
import io
import json
import os
import re

import tensorflow as tf

from effnet_tf import local_files, storage
from effnet_tf.errors import InputError, first_line, printable

COLUMNS = ("path", "label")
MAX_BYTES = 1 << 30  # some ten million rows
MISSING = ("nan", "<na>", "#n/a", "null")  # how programs write a label that is not there
_FRACTION = re.compile(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?|[+-]?\d+e[+-]?\d+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Row:
    """One image: its path, its label, its split if the table has any, and its name.

    The name is the path as it is written; of several paths of one file, the first in the
    alphabet.
    """

    path: str
    label: int
    split: str | None
    name: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Class names and `Row`s of a table."""

    class_names: tuple[str, ...]
    rows: tuple[Row, ...]


def read(path: str, num_classes: int | None = None) -> Table:
    """Reads a table with the columns path, label and, optionally, split.

    Labels are class names; classes are in alphabetical order, or in that of the numbers if
    all labels are whole numbers. Paths are relative to the table.

    Args:
        path: of a .csv file whose first line names the columns, or of a .jsonl file.
        num_classes: how many classes there are, if somebody said so: labels that look like
            measurements or names of images are then taken as they are.

    Raises:
        InputError: no such file, a missing column, or a row that cannot be used.
    """
    lines = list(_lines(path))
    if not lines:
        raise InputError(f"'{path}' has no rows.")
    for number, line in lines:
        _check_row(f"'{path}', line {number}", line)
    labels = collections.Counter(line["label"] for _, line in lines)
    if num_classes != len(labels):
        _check_labels(path, lines, labels)
    names = _in_order(labels)
    numbers = {name: number for number, name in enumerate(names)}
    rows = tuple(
        Row(
            _place(path, line["path"]),
            numbers[line["label"]],
            line.get("split") or None,
            line["path"],
        )
        for _, line in lines
    )
    same = _same_files(path, [number for number, _ in lines], rows, names)
    return Table(
        tuple(names),
        tuple(dataclasses.replace(row, name=same.get(row.name, row.name)) for row in rows),
    )


def _in_order(labels):
    """Labels in the order of their classes: by number if all are whole numbers."""
    if all(label.isdecimal() and len(label) < 19 for label in labels):
        return sorted(labels, key=lambda label: (int(label), label))
    return sorted(labels)


def _lines(path):
    """Yields (number, {column: value}) of the rows of a table."""
    text = _text(path)
    if path.lower().endswith(".jsonl"):
        yield from _jsonl(path, text)
    else:
        yield from _csv(path, text)


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


def _csv(path, text):
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        _check_columns(path, reader.fieldnames or (), text)
        for row in reader:
            yield reader.line_num, {name: _stripped(value) for name, value in row.items()}
    except csv.Error as error:
        raise InputError(
            f"'{path}', line {reader.line_num}, cannot be read as CSV: {first_line(error)}."
        ) from error


def _check_columns(path, columns, text):
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        first = "".join(text.splitlines()[:1])
        raise InputError(
            f"'{path}' has no column {' and no column '.join(missing)}; its first "
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


def _jsonl(path, text):
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
        yield (
            number,
            {
                name: _as_text(f"'{path}', line {number}", name, row[name])
                for name in (*COLUMNS, "split")
                if name in row
            },
        )


def _as_text(where, name, value):
    """A value of a JSON object as a CSV file would have it."""
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


def _check_row(where, line):
    """Raises InputError where a row cannot be used, whatever the others are."""
    if any(value.strip() for value in line.get(None) or ()):
        extra = printable(", ".join(line[None])[:80])
        raise InputError(
            f"{where}: there are more values than columns ('{extra}'). Put double "
            "quotes around a value that holds a comma."
        )
    if any(line.get(column) in (None, "") for column in COLUMNS):
        raise InputError(
            f"{where}: a row needs a path and a label; this one has path "
            f"{line.get('path')!r} and label {line.get('label')!r}."
        )
    if line["label"].casefold() in MISSING:
        raise InputError(
            f"{where}: the label is '{line['label']}', which programs write for "
            "a missing value. Give a label, or remove the row."
        )
    for column in (*COLUMNS, "split"):
        value = line.get(column) or ""
        if "\0" in value or _is_not_text(value):
            raise InputError(
                f"{where}: the {column} '{printable(value)}' cannot be the name "
                "of a file or a class."
            )


def _is_not_text(value):
    try:
        value.encode("utf-8")
        return False
    except UnicodeEncodeError:
        return True


# --- what the rows say together ---------------------------------------------------------------


def _check_labels(path, lines, labels):
    """Refuses labels that are no classes: measurements, and names of single images."""
    confirm = (
        f"If each of the {len(labels):,} labels is a class, confirm it with --num_classes "
        f"{len(labels)}."
    )
    for number, line in lines:
        if _FRACTION.fullmatch(line["label"]):
            raise InputError(
                f"'{path}', line {number}: the label {line['label']} is a floating point number, "
                "like a measurement; effnet_tf predicts classes. Give class names or whole "
                "numbers. "
                f"{confirm}"
            )
    once = [label for label, count in labels.items() if count == 1]
    if 2 * len(once) > len(lines):
        some = ", ".join(printable(label) for label in once[:5])
        raise InputError(
            f"'{path}': {len(once):,} of {len(lines):,} rows have a label that no other row has "
            f"({some}), as is usual for measurements and image names; a class needs several "
            f"images. {confirm}"
        )


def _same_files(path, numbers, rows, names):
    """Returns {path as written: the first of the same file}, where they differ.

    Raises:
        InputError: a place cannot be read, or one file has two labels or is in two splits.
    """
    schemes = {name for name in tf.io.gfile.get_registered_schemes() if name}
    of_file, first = {}, {}
    for number, row in zip(numbers, rows):
        where = f"'{path}', line {number}: '{printable(row.name)}'"
        _check_place(where, row.path, schemes)
        mark = row.path
        if not storage.is_remote(row.path):
            mark = local_files.identity(row.path)
        before, one = first.setdefault(mark, (number, row))
        if one.label != row.label:
            raise InputError(
                f"{where} has the label '{printable(names[row.label])}', and in line {before} the "
                f"label '{printable(names[one.label])}': an image has one class."
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
