"""Which errors become a sentence for a person, with which exit code, and how are others told?

Needs nothing but the standard library.
"""

import difflib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import ModuleType, TracebackType

# What libraries write for their authors: places in a graph, the operation that was called,
# the file and line of their own source.
_INTERNALS = re.compile(
    r"\{\{[^{}]*\}\}\s*"  # {{function_node __wrapped__ReadFile_device_...}}
    r"|\s*\[Op:\w+\](?:\s+name:\s*\S*)?"  # [Op:ReadFile] name:
    r"|\b__wrapped__\S*\s*"
    r"|\S*/\S+\.(?:cc|cpp|cu|h|hpp)(?::\d+)?:?\s*"  # tensorflow/lite/kernels/conv.cc:343
)
_LONGEST_LINE = 300  # letters
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


class Told(Exception):
    """Base of the exceptions whose message says all: see `show_sentences`."""

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows; IPython asks for it by this name."""
        return "".join(traceback.format_exception(_seen(self, self.__traceback__))).splitlines()


class InputError(Told, ValueError):
    """Something the user gave cannot be used; the message says what and why."""

    exit_code = BAD_INPUT


class SaveError(Told, RuntimeError):
    """A file could not be written; what was there before is as it was."""

    exit_code = NO_ACCESS


class NotFinite(SaveError):
    """A state must not be saved, because it is not finite."""

    exit_code = DIVERGED


class TrainingStopped(Told, RuntimeError):
    """Training cannot go on: it has diverged, again and again."""

    exit_code = DIVERGED


class WorkerLost(Told, RuntimeError):
    """Another of several workers is gone; what was saved stays."""

    exit_code = PREEMPTED


class Preempted(Told):
    """The run has saved its state and ends, because the machine will be taken away."""

    exit_code = PREEMPTED


# --- what Python shows --------------------------------------------------------------------------

# Of the environment: "full" shows where inside of effnet_tf an exception was raised, and why.
TRACEBACK = "EFFNET_TF_TRACEBACK"
# Between a user's line and our sentence their frames say nothing; nor do those of Python's own.
_LIBRARIES = frozenset({"effnet_tf", "effnet_export", "keras", "tensorflow", "IPython"})


def show_sentences() -> None:
    """Has Python show a `Told` exception as its sentence, below the lines of the user's own code.

    All others stay whole, and what handlers, loggers and debuggers get is whole, too.
    """
    before = sys.excepthook

    def show(kind: type, error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, Told):
            error = _seen(error, trace)
            trace = error.__traceback__
        before(type(error), error, trace)

    sys.excepthook = show


def _seen(error: BaseException, trace: TracebackType | None) -> BaseException:
    """Returns an exception as a person is to see it: with neither causes nor others' frames."""
    if os.environ.get(TRACEBACK) == "full":
        return error
    error = _first_raised(error)
    error.__cause__, error.__suppress_context__ = None, True
    shown = None
    for each in reversed(list(_own_frames(trace))):
        shown = TracebackType(shown, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return error.with_traceback(shown)


def _own_frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0]
        if package not in _LIBRARIES and package not in sys.stdlib_module_names:
            yield trace
        trace = trace.tb_next


# --- what is told -------------------------------------------------------------------------------


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says, without its full stop.

    What a library says for its own authors (places in a graph, lines of C++) is left out. An
    exception that says nothing gives the name of its kind.
    """
    text = getattr(error, "message", None) or str(error)
    for line in str(text).splitlines():
        line = _INTERNALS.sub("", line).strip()
        if line and not line.startswith(_ANNOUNCEMENTS):
            return _cut(line.removesuffix("."))
    return type(error).__name__


def _cut(line):
    """Without the bytes of a damaged file, of which some libraries show all."""
    if len(line) > _LONGEST_LINE:
        return f"{line[:_LONGEST_LINE]} ..."
    return line


def nearest(name: object, known: Iterable[str], cutoff: float = 0.4, most: int = 4) -> str:
    """Returns a sentence that offers the names in `known` nearest to `name`.

    A name inside what was written counts as near: "efficientnet-b3" offers "b3".

    Args:
        name: what the user wrote.
        known: the names there are.
        cutoff: how near, in [0, 1], a name must be to be offered.
        most: how many are offered.
    """
    known, wanted = sorted(known), str(name).lower()
    close = [other for other in known if other in wanted]  # "efficientnet-b3" holds "b3"
    close = close or difflib.get_close_matches(wanted, known, n=most, cutoff=cutoff)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    if len(known) < 30:
        return f"Known: {', '.join(known)}."
    return "No known name is near."


def told(error: BaseException) -> tuple[int | None, str]:
    """Returns (exit code, sentence) of an exception; (None, "") if it is a fault of ours.

    Not ours are those with an `exit_code`, a lack of memory, and what disks, networks or
    permissions cause.
    """
    error = _first_raised(error)
    if hasattr(error, "exit_code"):
        return error.exit_code, str(error)
    if _is_lack_of_memory(error):
        return BAD_INPUT, (
            f"There is not enough memory ({first_line(error)}): try a smaller "
            "batch or image size, or another machine."
        )
    reason = _outside_reason(error)
    if reason:
        return NO_ACCESS, f"A file, a disk or the network failed: {reason}."
    return None, ""


def _first_raised(error):
    """What was raised first: Keras and autograph raise it again with what they know of it."""
    again = ("Exception encountered when calling", "in user code:")
    while str(error).startswith(again) and isinstance(error.__context__, type(error)):
        error = error.__context__
    return error


def _is_lack_of_memory(error):
    if isinstance(error, MemoryError):
        return True
    errors = _errors_of_tensorflow()
    return (
        errors is not None
        and isinstance(error, errors.ResourceExhaustedError)
        and "OOM" in str(error)
    )


def _outside_reason(error):
    """Says what disks, networks or permissions did to cause an error; None: our code did."""
    if isinstance(error, OSError) and error.strerror:
        if error.filename:
            return f"{error.strerror}: '{error.filename}'"
        return error.strerror
    if isinstance(error, (ConnectionError, TimeoutError)) or _is_outside_tensorflow(error):
        return first_line(error)
    return None


def _is_outside_tensorflow(error):
    """Whether an error that TensorFlow reports was caused outside of it."""
    errors = _errors_of_tensorflow()
    if errors is None:
        return False
    if isinstance(error, errors.UnimplementedError):
        return "File system scheme" in str(error)  # such as s3://
    return isinstance(
        error,
        (
            errors.NotFoundError,
            errors.PermissionDeniedError,
            errors.UnauthenticatedError,
            errors.UnavailableError,
            errors.ResourceExhaustedError,
            errors.DeadlineExceededError,
            errors.DataLossError,
            errors.AbortedError,
        ),
    )


def _errors_of_tensorflow() -> ModuleType | None:
    """Returns tf.errors, None as long as TensorFlow is not there: then it is none of them."""
    return getattr(sys.modules.get("tensorflow"), "errors", None)


def shown(text: object) -> str:
    """Returns what a stranger's file says, for a message: one line that steers no terminal.

    It is cut where it is longer than a sentence.
    """
    return _cut(printable(str(text)))


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
