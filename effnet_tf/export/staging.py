"""How does a file get to its place whole, or not at all?

Everything is written to a hidden folder beside its place, checked there, and moved by one
rename. A failure removes the folder; the old file is as it was. What a killed process left
behind, the next one removes.
"""

import contextlib
import ctypes
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile

from effnet_tf.errors import InputError, first_line
from effnet_tf.export import checksum

# Names in a temporary folder: what is made, and what was in its place.
_PREFIX, _LOCK, _MADE, _ASIDE = ".partial-", ".lock", "made", "replaced"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux' renameat2


@contextlib.contextmanager
def staged(path, mark=None):
    """Gives a temporary path beside `path`, moved there on success, removed on failure.

    What else is written beside the temporary path goes with it.

    Args:
        path: of a file; or of a directory, if there is a
        mark: name of a file that is in each directory of that kind, such as saved_model.pb.

    Raises:
        InputError: `path` is not on this machine, its folder cannot be written, or what
            lies there is something else: it stays as it is.
    """
    if "://" in path:
        raise InputError(f"'{path}' is not on this machine: write to a local path, and copy it.")
    if not path:
        raise InputError("The path to write to is empty.")
    path = os.path.abspath(path)
    _refuse_foreign(path, mark)
    home = os.path.dirname(path)
    try:
        os.makedirs(home, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)  # a name that is too long is refused now, not after the work
        _remove_abandoned(home)
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=home)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {first_line(error)}.") from error
    with open(os.path.join(folder, _LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
        try:
            with plain(folder) as place:
                yield os.path.join(place, _MADE)
            _refuse_foreign(path, mark)  # somebody may have put something there meanwhile
            _put(folder, path)
        finally:
            _remove(folder)


@contextlib.contextmanager
def plain(path):
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
    report, aside = checksum.report_path(path), os.path.join(folder, "report")
    moved = _is_report(report)
    if moved:
        os.rename(report, aside)
    try:
        _replace(os.path.join(folder, _MADE), path)
    except BaseException:
        if moved:
            os.rename(aside, report)
        raise


def _is_report(path):
    """Whether a file is a report of this program."""
    try:
        with open(path, encoding="utf-8") as file:
            return "check" in json.load(file)
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _remove_abandoned(home):
    """Removes the temporary folders of processes that are no more."""
    for path in glob.glob(os.path.join(glob.escape(home), f"{_PREFIX}*", _LOCK)):
        with contextlib.suppress(OSError), open(path) as lock:  # BlockingIOError: it is in use
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(os.path.dirname(path))


def _remove(folder):
    """Removes a temporary folder, but for a directory of the user's that was put aside in it.

    Where a process ended between the two renames of `_replace_in_two_steps`, that is the only
    one: it goes back to its place. Is there another one now, both stay.
    """
    aside = os.path.join(folder, _ASIDE)
    if os.path.isdir(aside) and os.path.lexists(os.path.join(folder, _MADE)):
        for name in os.listdir(aside):
            place = os.path.join(os.path.dirname(folder), name)
            if os.path.lexists(place):
                return
            os.rename(os.path.join(aside, name), place)
    shutil.rmtree(folder)


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


def _replace(new, path):
    """Moves `new` to `path`. A directory that is there changes places with it."""
    if not os.path.isdir(path):
        os.replace(new, path)
        return
    if not os.path.isdir(new):
        raise IsADirectoryError(f"'{path}' is a directory and would be replaced by a file")
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None or exchange(
        _AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE
    ):
        home = os.path.join(os.path.dirname(new), _ASIDE)
        os.makedirs(home, exist_ok=True)
        _replace_in_two_steps(new, path, os.path.join(home, os.path.basename(path)))


def _replace_in_two_steps(new, path, aside):
    """As `_replace`, where the system cannot exchange two directories at once."""
    os.rename(path, aside)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(aside, path)
        raise


def read(path):
    """Returns the bytes of a file."""
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    """Writes bytes to a file."""
    with open(path, "wb") as file:
        file.write(data)


def size(path):
    """Returns the bytes of a file, or of all files in a directory."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
