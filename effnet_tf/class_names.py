"""What are the classes called, in a text file with one name per line?

Everybody who reads such a list (classes.txt beside record files, --labels of the export)
reads it here. Needs no TensorFlow.
"""

import re
from collections.abc import Sequence

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line, printable

MAX_BYTES = 1 << 24  # ImageNet's 21,843 names take half a megabyte
BACKGROUND = "background"  # what lists of 1,001 names call label 0

_LINE_END = re.compile("\r\n|\n|\r")  # str.splitlines would break at seven others, too
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def parse(content: bytes, where: str) -> tuple[str, ...]:
    """Returns the names in a file's content, in their order.

    A byte-order mark, line ends of any system, blanks around a name, and empty lines at
    the end are not part of the names.

    Args:
        content: of the file.
        where: its path, for messages.

    Raises:
        InputError: it is not UTF-8 text, is empty, or has an empty line or a name twice.
    """
    names = _lines(_text(content, where))
    if not names:
        raise InputError(f"'{where}' holds no class names: write one per line.")
    _check_each(names, where)
    return tuple(names)


def _lines(text):
    """The lines of a text, without blanks around them and without empty ones at the end."""
    lines = [line.strip() for line in _LINE_END.split(text)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _check_each(names, where):
    """Raises InputError where a name is empty or comes twice."""
    first = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(
                f"'{where}' has an empty line, line {number}: it must hold one class name per line."
            )
        if name in first:
            raise InputError(
                f"'{where}' has the class '{printable(name)}' twice, in line {first[name]} and "
                f"in line {number}: every class needs its own name."
            )
        first[name] = number


def read(path: str) -> tuple[str, ...]:
    """Returns the names in a file on this machine; see `parse`."""
    try:
        return parse(local_files.read(path, MAX_BYTES), path)
    except OSError as error:
        raise InputError(
            f"The class names '{path}' cannot be read: {first_line(error)}."
        ) from error


def fitting(names: Sequence[str], classes: int) -> Sequence[str]:
    """Returns the names without a first one for the background, if that is one too many."""
    background = len(names) > 0 and names[0].casefold() == BACKGROUND
    if background and len(names) == classes + 1:
        return names[1:]
    return names


def _text(content, where):
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"'{where}' is not UTF-8 text (line {line}): save it as UTF-8.") from error
    _check_plain(text, where)
    return text


def _check_plain(text, where):
    """Raises InputError where a text holds a control character."""
    found = _CONTROL.search(text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(
            f"'{where}' holds the control character {found[0]!r} in line {line}: "
            "it must be plain text, one class name per line."
        )


def text(names: tuple[str, ...], where: str) -> str:
    """Returns the content of a file from which `parse` reads these very names.

    Raises:
        InputError: it could not, as of a name that holds a line break.
    """
    written = "".join(f"{name}\n" for name in names)
    for name in names:
        if not _reads_as(f"{name}\n", (name,)):
            raise InputError(
                f"The class name '{printable(name)}' cannot be a line of '{where}': "
                "rename the class. Names must be UTF-8 text without control "
                "characters, and without blanks at either end."
            )
    if not _reads_as(written, tuple(names)):
        raise InputError(
            f"These class names cannot be written to '{where}': one comes twice, "
            "or there are too many."
        )
    return written


def _reads_as(written, names):
    """Whether `parse` makes these names of a text."""
    try:
        return parse(written.encode("utf-8"), "") == names
    except (InputError, UnicodeEncodeError):
        return False
