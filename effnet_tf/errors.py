"""Which errors become a sentence for a person, with which exit code, and how are others told?

Needs nothing but the standard library.
"""

import difflib
import re
from collections.abc import Iterable

# What libraries write for their authors: places in a graph, the operation that was called,
# the file and line of their own source.
_INTERNALS = re.compile(
    r"\{\{[^{}]*\}\}\s*"  # {{function_node __wrapped__ReadFile_device_...}}
    r"|\s*\[Op:\w+\](?:\s+name:\s*\S*)?"  # [Op:ReadFile] name:
    r"|\b__wrapped__\S*\s*"
    r"|\S*/\S+\.(?:cc|cpp|cu|h|hpp)(?::\d+)?:?\s*"  # tensorflow/lite/kernels/conv.cc:343
)
# Lines that only announce the next one.
_ANNOUNCEMENTS = (
    "Graph execution error:",
    "Detected at node",
    "Exception encountered when",
    'File "',
)  # of the traceback to where a graph was made


# Exit codes of programs, besides 0. 74 and 75 are of sysexits.h; the last three are those of a
# shell for a program that SIGINT, SIGPIPE or SIGTERM has ended.
FAULT, BAD_INPUT, DIVERGED, NO_ACCESS, PREEMPTED = 1, 2, 3, 74, 75
INTERRUPTED, NOT_READ, TERMINATED = 130, 141, 143


# Of an exception that has an `exit_code` programs print the message, without a traceback.


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and why."""

    exit_code = BAD_INPUT


class SaveError(RuntimeError):
    """A file could not be written; what was there before is as it was."""

    exit_code = NO_ACCESS


class NotFinite(SaveError):
    """A state must not be saved, because it is not finite."""

    exit_code = DIVERGED


class TrainingStopped(RuntimeError):
    """Training cannot go on: it has diverged, again and again."""

    exit_code = DIVERGED


class WorkerLost(RuntimeError):
    """Another of several workers is gone; what was saved stays."""

    exit_code = PREEMPTED


class Preempted(Exception):
    """The run has saved its state and ends, because the machine will be taken away."""

    exit_code = PREEMPTED


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says, without its full stop.

    What a library says for its own authors (places in a graph, lines of C++) is left out. An
    exception that says nothing gives the name of its kind.
    """
    text = getattr(error, "message", None) or str(error)
    for line in str(text).splitlines():
        line = _INTERNALS.sub("", line).strip()
        if line and not line.startswith(_ANNOUNCEMENTS):
            return line.removesuffix(".")
    return type(error).__name__


def nearest(name: object, known: Iterable[str], cutoff: float = 0.4) -> str:
    """Returns a sentence that offers the names in `known` nearest to `name`.

    A name inside what was written counts as near: "efficientnet-b3" offers "b3".

    Args:
        name: what the user wrote.
        known: the names there are.
        cutoff: how near, in [0, 1], a name must be to be offered.
    """
    known, wanted = sorted(known), str(name).lower()
    close = [other for other in known if other in wanted]  # "efficientnet-b3" holds "b3"
    close = close or difflib.get_close_matches(wanted, known, n=4, cutoff=cutoff)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if len(known) < 30:
        return f"Known: {', '.join(known)}."
    return "No known name is near."


def printable(text: str) -> str:
    """Returns a text in which nothing steers a terminal: "\\x1b[2J" for the real thing.

    Control characters, marks that turn the direction of writing, and bytes of a file name
    that are no text are written as escapes. Line breaks too: the result is one line.
    """
    return "".join(each if each.isprintable() else _escaped(each) for each in text)


def _escaped(character):
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")
