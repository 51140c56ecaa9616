"""How does a file get to its place whole, or not at all?

Everything is written to a hidden folder beside its place, checked there, and moved by one
rename; a SavedModel that it replaces goes to the hidden folder first. A failure removes the
folder; the old file is as it was. What a killed process left behind, the next one undoes.
"""

import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator

from effnet_tf.errors import InputError, first_line
from effnet_tf.export import checksum

MARK = "saved_model.pb"  # of a SavedModel's directory
# Names in a temporary folder: what is made, and what was in its place.
_PREFIX, _LOCK, _MADE, _ASIDE = ".partial-", ".lock", "made", "replaced"


@contextlib.contextmanager
def staged(path: str, mark: str | None = None) -> Iterator[str]:
    """Gives a temporary path beside `path`, moved there on success, removed on failure.

    What else is written beside the temporary path goes with it.

    Args:
        path: of a file; or of a directory, if there is a mark.
        mark: name of a file that is in each directory of that kind: `MARK`.

    Raises:
        InputError: `path` is not on this machine, its folder cannot be written, or what
            lies there is something else: it stays as it is.
    """
    prepare(path, mark)
    path = os.path.abspath(path)
    folder = _temporary(path)
    with open(os.path.join(folder, _LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
        try:
            with plain(folder) as place:
                yield os.path.join(place, _MADE)
            _refuse_foreign(path, mark)  # somebody may have put something there meanwhile
            _put(folder, path)
        finally:
            _remove(folder)


def prepare(path: str, mark: str | None = None) -> None:
    """Refuses a place that cannot be written to; to be asked before the work is done.

    First of all it undoes what killed exports to the same folder have left: see `put_back`.

    Args:
        path: as for `staged`.
        mark: as for `staged`.

    Raises:
        InputError: as `staged`.
    """
    put_back(path)
    if "://" in path:
        raise InputError(f"'{path}' is not on this machine: write to a local path, and copy it.")
    if not path:
        raise InputError("The path to write to is empty.")
    path = os.path.abspath(path)
    _refuse_foreign(path, mark)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # whether the name is too long, or its folder is a file
    except OSError as error:
        raise _cannot_be_written(path, error) from error


def _cannot_be_written(path, error):
    return InputError(f"'{path}' cannot be written: {first_line(error)}.")


def _temporary(path):
    """Returns a new hidden folder beside `path`."""
    home = os.path.dirname(path)
    try:
        os.makedirs(home, exist_ok=True)
        return tempfile.mkdtemp(prefix=_PREFIX, dir=home)
    except OSError as error:
        raise _cannot_be_written(path, error) from error


@contextlib.contextmanager
def plain(path: str) -> Iterator[str]:
    """Gives a path of ASCII letters to the same file or directory: itself, or a link.

    TensorFlow takes no bytes that are not UTF-8, and reads [, * and \\ as patterns.
    """
    if re.fullmatch(r"[\w./ ,+=@~-]+", path, re.ASCII):
        yield path
        return
    with tempfile.TemporaryDirectory() as home:
        link = os.path.join(home, "link")
        os.symlink(os.path.abspath(path), link)
        yield link


def _put(folder, path):
    """Moves what was made in a temporary folder to its place.

    The report beside `path` is of the file before: it goes with that, or stays with it.
    """
    report, aside = checksum.report_path(path), os.path.join(folder, _ASIDE)
    os.mkdir(aside)
    kept = os.path.join(aside, os.path.basename(report))
    moved = _is_report(report)
    if moved:
        os.rename(report, kept)
    try:
        _replace(os.path.join(folder, _MADE), path, aside)
    except BaseException:
        if moved:
            os.rename(kept, report)
        raise


def _replace(new, path, aside):
    """Moves `new` to `path`; a directory that lies there is moved to the folder `aside` before.

    No rename replaces a directory that holds something. Between the two there is none at
    `path`: whoever reads it then is told by `set_aside`, and what a killed process left there
    `put_back` brings back.
    """
    if not os.path.isdir(path):
        os.replace(new, path)
        return
    if not os.path.isdir(new):
        raise IsADirectoryError(f"'{path}' is a directory and would be replaced by a file")
    kept = os.path.join(aside, os.path.basename(path))
    os.rename(path, kept)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(kept, path)
        raise


def put_back(path: str) -> None:
    """Undoes what killed exports to the folder of `path` have left there, of whatever file.

    Their temporary folders are removed. A SavedModel, or a report, that one had put aside to
    replace it gets its place again.

    Args:
        path: of a file or directory that need not exist.

    Raises:
        OSError: the folder cannot be written.
    """
    if not path or "://" in path:
        return
    home = os.path.dirname(os.path.abspath(path))
    for lock_file in glob.glob(os.path.join(glob.escape(home), f"{_PREFIX}*", _LOCK)):
        # BlockingIOError: that export is at work.
        with contextlib.suppress(OSError), open(lock_file) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(os.path.dirname(lock_file))


def set_aside(path: str) -> str | None:
    """Returns where an export has put what was at `path` to replace it; None: nothing was."""
    home, name = os.path.split(os.path.abspath(path))
    pattern = os.path.join(glob.escape(home), f"{_PREFIX}*", _ASIDE, glob.escape(name))
    return next(iter(glob.glob(pattern)), None)


def _remove(folder):
    """Removes a temporary folder, but for a directory of the user's that was put aside in it.

    Where a process was killed between the two renames of `_replace`, that is the only one: it
    goes back to its place. Is there another one now, both stay.
    """
    aside = os.path.join(folder, _ASIDE)
    if os.path.isdir(aside) and os.path.lexists(os.path.join(folder, _MADE)):
        for name in os.listdir(aside):
            kept, place = os.path.join(aside, name), os.path.join(os.path.dirname(folder), name)
            if not os.path.lexists(place):
                os.rename(kept, place)
            elif os.path.isdir(kept):
                return
    shutil.rmtree(folder)


def _is_report(path):
    """Whether a file is a report of this program."""
    try:
        with open(path, encoding="utf-8") as file:
            return "check" in json.load(file)
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _refuse_foreign(path, mark):
    """Refuses to replace a directory by a file, or one that is neither empty nor marked."""
    if mark is None and os.path.isdir(path):
        raise InputError(f"'{path}' is a directory; name a file to write.")
    if (
        mark
        and os.path.exists(path)
        and not os.path.isfile(os.path.join(path, mark))
        and not (os.path.isdir(path) and not os.listdir(path))
    ):
        raise InputError(
            f"'{path}' exists and is not a SavedModel; it stays as it is. Choose another --out."
        )
    if os.path.isdir(path) and os.path.commonpath([path, os.getcwd()]) == path:
        raise InputError(
            f"'{path}' is the directory that this program runs in, or above it; it "
            "stays as it is. Choose another --out."
        )


def read(path: str) -> bytes:
    """Returns the bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def write(path: str, data: bytes) -> None:
    """Writes bytes to a file."""
    with open(path, "wb") as file:
        file.write(data)


def size(path: str) -> int:
    """Returns the bytes of a file, or of all files in a directory."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
