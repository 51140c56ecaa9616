"""How does a file get to its place whole, or not at all?

Everything is written to a hidden folder beside its place, checked there, and moved by one
rename. A failure removes the folder; the old file is as it was. What a killed process left
behind, the next one removes.
"""

import contextlib
import fcntl
import glob
import os
import shutil
import tempfile

from effnet_tf.config import InputError

_PREFIX, _LOCK = ".partial-", ".lock"


@contextlib.contextmanager
def staged(path, mark=None):
    """Gives a temporary path beside `path`, moved there on success, removed on failure.

    Args:
        path: of a file; or of a directory, if there is a
        mark: name of a file that is in each directory of that kind, such as saved_model.pb.

    Raises:
        InputError: `path` is not on this machine, its folder cannot be written, or what
            lies there is something else: it stays as it is.
    """
    if "://" in path:
        raise InputError(f"'{path}' is not on this machine: write to a local path, and copy it.")
    _refuse_foreign(path, mark)
    path = os.path.abspath(path)
    home = os.path.dirname(path)
    try:
        os.makedirs(home, exist_ok=True)
        _remove_abandoned(home)
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=home)
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error}.") from error
    with open(os.path.join(folder, _LOCK), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process
        try:
            temporary = os.path.join(folder, os.path.basename(path))
            yield temporary
            _replace(temporary, path, os.path.join(folder, ".replaced"))  # goes with the folder
        finally:
            shutil.rmtree(folder)


def _remove_abandoned(home):
    """Removes the temporary folders of processes that are no more."""
    for path in glob.glob(os.path.join(glob.escape(home), f"{_PREFIX}*", _LOCK)):
        with contextlib.suppress(OSError), open(path) as lock:  # BlockingIOError: it is in use
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(os.path.dirname(path))


def _replace(new, path, aside):
    """Moves `new` to `path`; what lies there goes to `aside`, and back if that fails."""
    if not os.path.isdir(path):
        os.replace(new, path)
        return
    os.rename(path, aside)
    try:
        os.rename(new, path)
    except OSError:
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


def _refuse_foreign(path, mark):
    """Refuses to replace a directory by a file, or one that is neither empty nor marked."""
    if mark is None and os.path.isdir(path):
        raise InputError(f"'{path}' is a directory; name a file to write.")
    if mark and os.path.exists(path) and not os.path.exists(os.path.join(path, mark)) and not (
            os.path.isdir(path) and not os.listdir(path)):
        raise InputError(f"'{path}' exists and is no SavedModel; it stays as it is. "
                         "Choose another --out.")


def size(path):
    """Returns the bytes of a file, or of all files in a directory."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name))
               for folder, _, names in os.walk(path) for name in names)
