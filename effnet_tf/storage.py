"""Can a place be used, and how is a file read or written whole, whatever its name?

Places are paths of this machine, or addresses such as gs://bucket/folder. On this machine
files are opened by Python, which takes every name; TensorFlow fails at names that are not
UTF-8, and reads a checkpoint's name as a pattern.
"""

import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from typing import BinaryIO

import tensorflow as tf

from effnet_tf import local_files
from effnet_tf.errors import InputError, SaveError, first_line, printable

PATIENCE = 20  # seconds that a place elsewhere has to answer
_PATTERN = "*?[]\\"  # characters that TensorFlow takes for a pattern
_CHUNK = 1 << 24


def is_remote(path: str) -> bool:
    """Whether a path names a place elsewhere, such as gs://bucket/folder."""
    return "://" in path


def check_place(path: str, option: str) -> None:
    """Refuses a place that TensorFlow cannot use at all, before any long work.

    On this machine only the name is looked at; elsewhere it is asked whether anything
    answers. Whether the file or folder exists is the caller's question.

    Args:
        path: a path of this machine, or an address such as gs://bucket/folder.
        option: what the user calls it, such as "--workdir".

    Raises:
        InputError: the name is not UTF-8 or holds a null byte, there is no such kind of
            storage, or nothing answers there.
    """
    check_name(path, option)
    if not is_remote(path):
        return
    scheme = path.partition("://")[0]
    known = [name for name in tf.io.gfile.get_registered_schemes() if name]
    if scheme not in known:
        raise InputError(
            f"{option} '{printable(path)}' cannot be reached: this TensorFlow knows no {scheme}:// "
            f"(only {', '.join(f'{name}://' for name in sorted(known))}). Give a path on this "
            "machine or a gs:// one."
        )
    problem = _problem(path)
    if problem:
        raise InputError(
            f"{option} '{printable(path)}' cannot be reached: {problem}. Check the address, the "
            "network and your credentials (gcloud auth application-default login), or give a path "
            "on this machine."
        )


def check_name(path: str, option: str) -> None:
    """Refuses a name that TensorFlow cannot take: see `check_place`."""
    problem = None
    if "\0" in path:
        problem = "holds a null byte"
    elif not _is_text(path):
        problem = "is not UTF-8, and TensorFlow can neither read nor write there"
    if problem:
        raise InputError(
            f"{option} '{printable(path)}' cannot be used: its name {problem}. Rename "
            "it, or choose another."
        )


def _problem(path):
    """Says why a place elsewhere does not answer, or returns None."""
    found = []

    def ask():
        try:
            tf.io.gfile.exists(path)
            found.append(None)
        except (tf.errors.OpError, OSError, ValueError) as error:
            found.append(first_line(error))

    # TensorFlow tries again and again, for many minutes, where nothing answers.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not found:
        return f"no answer within {PATIENCE} seconds"
    return found[0]


# --- reading --------------------------------------------------------------------------------


def exists(path: str) -> bool:
    """Whether there is a file or folder at a path."""
    if is_remote(path):
        return tf.io.gfile.exists(path)
    return os.path.exists(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder at a path."""
    if is_remote(path):
        return tf.io.gfile.isdir(path)
    return os.path.isdir(path)


def names(folder: str) -> list[str]:
    """Returns the sorted names of what is in a folder; none if there is no such folder."""
    if not is_folder(folder):
        return []
    found = tf.io.gfile.listdir(folder) if is_remote(folder) else os.listdir(folder)
    return sorted(name.rstrip("/") for name in found)


def size(path: str) -> int:
    """Returns the bytes of a file.

    Raises:
        OSError or tf.errors.OpError: there is none, or it is not a regular file.
    """
    if is_remote(path):
        return tf.io.gfile.stat(path).length
    kind = local_files.not_regular(path)
    if kind:
        raise OSError(f"it is {kind}, not a regular file")
    return os.stat(path).st_size


def chunks(path: str) -> Iterator[bytes]:
    """Yields the bytes of a file, part by part; errors as of `size`."""
    size(path)  # a pipe would be waited for for ever
    with _opened(path) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _opened(path) -> BinaryIO:
    if is_remote(path):
        return tf.io.gfile.GFile(path, "rb")
    return open(path, "rb")


def read_bytes(path: str, most: int) -> bytes:
    """Returns what a file holds.

    Args:
        path: of the file.
        most: more bytes than this are not read.

    Raises:
        InputError: it has more.
        OSError or tf.errors.OpError: it cannot be read, or is not a regular file.
    """
    length = size(path)
    if length > most:
        raise InputError(f"'{path}' has {length:,} bytes, and at most {most:,} are expected there.")
    return b"".join(chunks(path))


def parse_json(content: str | bytes) -> object:
    """Returns what a JSON text says; ValueError if it is none."""
    try:
        return json.loads(content)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start:,}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


# --- writing --------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns the error of a write inside into a SaveError that names the path."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise SaveError(
            f"'{path}' cannot be written: {first_line(error)}. Everything written "
            "before is intact: fix the cause, and run the command again."
        ) from error


def write_bytes(path: str, content: bytes) -> None:
    """Writes a file, local or gs://, whole or not at all.

    Raises:
        SaveError: it cannot be written.
    """
    temporary = f"{path}.tmp"
    with writing(path):
        try:
            with tf.io.gfile.GFile(temporary, "wb") as file:
                file.write(content)
            tf.io.gfile.rename(temporary, path, overwrite=True)
        except BaseException:
            if tf.io.gfile.exists(temporary):
                tf.io.gfile.remove(temporary)
            raise


def write_text(path: str, text: str) -> None:
    """Writes a text file as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_rows(path: str, rows: list[dict]) -> None:
    """Writes dicts as a file of JSON lines; see `write_bytes`."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


# --- checkpoints ----------------------------------------------------------------------------


@contextlib.contextmanager
def plain_prefix(prefix: str) -> Iterator[str]:
    """Yields a prefix of the same TensorFlow checkpoint whose name is no pattern.

    TensorFlow looks for a checkpoint's files with its name as a pattern, and so cannot open
    what it has written itself to a folder called "a[0]".
    """
    if not any(character in prefix for character in _PATTERN) and _is_text(prefix):
        yield prefix
        return
    folder, name = os.path.split(prefix)
    # Below a temporary folder whose own name is a pattern nothing would be won.
    where = tempfile.gettempdir()
    if any(character in where for character in _PATTERN):
        where = "/tmp"
    with tempfile.TemporaryDirectory(prefix="effnet_tf-", dir=where) as temporary:
        for other in names(folder):
            ending = other.removeprefix(name)
            if other.startswith(name) and ending.startswith((".index", ".data-")):
                _bring(os.path.join(folder, other), os.path.join(temporary, "checkpoint" + ending))
        yield os.path.join(temporary, "checkpoint")


def _is_text(path):
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in path)


def _bring(path, here):
    if not is_remote(path):
        os.symlink(os.path.abspath(path), here)
        return
    with tf.io.gfile.GFile(path, "rb") as source, open(here, "wb") as target:
        shutil.copyfileobj(source, target, _CHUNK)
