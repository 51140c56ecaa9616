"""How does the state of a run reach the disk, and come back unharmed?

A checkpoint is a folder named by its step (a second one of the same step has "-1" added):
a TensorFlow checkpoint and a manifest.

    checkpoints/00000780/state.index
                         state.data-00000-of-00001
                         manifest.json              the step, size and SHA-256 of both

The manifest is written last and so is the commit mark: readers ignore a folder without
one, wherever it lies; no folder is renamed, which object stores (gs://) cannot do. All
hashes are checked before TensorFlow opens anything, because damaged files can crash it.
"""

import concurrent.futures
import hashlib
import json
import os
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError, NotFinite, SaveError, first_line
from effnet_tf.messages import log

PREFIX, MANIFEST = "state", "manifest.json"
THRESHOLDS = "thresholds"  # of the classes, in runs whose images may have several
_OURS = re.compile(r"\d+(-\d+)?")  # names of checkpoints' folders
_MOST = 1 << 20  # bytes of a manifest


class Store:
    """The checkpoints of one run.

    Args:
        folder: where they lie, local or gs://.
        keep: how many stay; while one is written there is one more.
        in_background: whether `save` returns before the files are written.
    """

    def __init__(self, folder: str, keep: int = 3, in_background: bool = False) -> None:
        self.folder, self.keep, self.in_background = folder, keep, in_background
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future | None = None
        self._good: str | None = None  # the newest folder known to be unharmed: never removed
        self._harmed: list[str] = []  # newer ones

    def save(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Writes a checkpoint, after the one that is still being written.

        Args:
            step: its number.
            values: {name: array}; all must be finite.

        Raises:
            SaveError: this one, or with `in_background` the one before, cannot be written.
        """
        self.wait()
        _refuse_not_finite(step, values)
        self._pending = self._writer.submit(self._write, step, values)
        if not self.in_background:
            self.wait()

    def poll(self) -> None:
        """Raises the error of a background save that has failed."""
        if self._pending and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Returns once the last save is on disk; raises its error."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def close(self) -> None:
        """Waits, and ends the background thread."""
        self._writer.shutdown()
        self.wait()

    def newest(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """Returns (step, {name: array}) of the newest unharmed checkpoint; None without any.

        Says which are damaged.

        Raises:
            InputError: there are some, and all are damaged.
        """
        self.wait()
        prefix, complete = newest(self.folder), committed(self.folder)
        if prefix is None and complete:
            raise InputError(
                f"None of the {len(complete)} checkpoints in '{self.folder}' can be "
                "read. If this passes, or once you have restored them from a copy, run the same "
                "command again; to start afresh, choose another --workdir."
            )
        if prefix is None:
            return None
        self._good = os.path.dirname(prefix)
        self._harmed = complete[complete.index(self._good) + 1 :]
        try:
            return step_of(prefix), read(prefix)
        except (tf.errors.OpError, ValueError, IndexError) as error:
            raise InputError(
                f"The checkpoint '{prefix}' is intact, but TensorFlow cannot read it: "
                f"{first_line(error)}."
            ) from error

    def _write(self, step, values):
        folder = None
        try:
            self.sweep()
            folder = _next_folder(self.folder, step)
            tf.io.gfile.makedirs(folder)
            names = sorted(values)
            tf.raw_ops.SaveV2(
                prefix=os.path.join(folder, PREFIX),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=[values[name] for name in names],
            )
            _write_manifest(folder, step)
        except (tf.errors.OpError, OSError, SaveError) as error:
            cause = error.__cause__ or error  # of storage's SaveError, what the disk said
            raise SaveError(
                f"The checkpoint of step {step:,} cannot be written to '{self.folder}': "
                f"{first_line(cause)}. Older checkpoints are intact{_clean_up(folder)}. Free some "
                "space or repair the disk; the same command then goes on from the newest."
            ) from error
        self._good = folder
        try:
            self.sweep()
        except (tf.errors.OpError, OSError) as error:
            log.info(f"Older checkpoints cannot be removed now: {first_line(error)}.")

    def sweep(self) -> None:
        """Removes what interrupted saves left, and all checkpoints but the newest `keep`."""
        unharmed = [folder for folder in committed(self.folder) if folder not in self._harmed]
        kept = unharmed[-self.keep :]
        for folder in _folders(self.folder):
            if folder not in kept and folder != self._good:
                _remove(folder)


def newest(folder: str) -> str | None:
    """Returns the prefix of the newest checkpoint in a folder whose hashes are right, or None.

    Says of each newer one why it is passed over.
    """
    for candidate in reversed(committed(folder)):
        harm = verify(candidate)
        if harm is None:
            return os.path.join(candidate, PREFIX)
        log.info(f"The checkpoint '{candidate}' is damaged ({harm}): an older one is tried.")
    return None


def verify(folder: str) -> str | None:
    """Returns what is wrong with a checkpoint's folder, in words, or None.

    Its files are only read as bytes.
    """
    try:
        for name, (size, digest) in sorted(_manifest(folder).items()):
            path = os.path.join(folder, name)
            if storage.size(path) != size:
                return f"{name} has another size than when it was written"
            if _hash(path) != digest:
                return f"{name} has another SHA-256 than when it was written"
    except (tf.errors.OpError, OSError, ValueError) as error:
        return first_line(error)
    return None


def _manifest(folder):
    """Returns {name: (size, SHA-256)} of a checkpoint's files; ValueError if that is not there."""
    content = storage.read_bytes(os.path.join(folder, MANIFEST), _MOST)
    try:
        manifest = storage.parse_json(content)
    except ValueError as error:
        raise ValueError(f"its manifest is damaged: {first_line(error)}") from error
    try:
        step = manifest["step"]
        files = {str(name): (size, digest) for name, (size, digest) in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its manifest does not list files with their sizes and hashes") from error
    if _OURS.fullmatch(os.path.basename(folder)) and step != step_of(folder):
        raise ValueError(f"it is of step {str(step)[:20]}")
    kinds = {name.removeprefix(PREFIX).partition("-")[0] for name in files}
    if any(os.path.basename(name) != name for name in files) or not kinds >= {".index", ".data"}:
        raise ValueError(
            f"its manifest names {', '.join(files)[:80] or 'no files'} instead of an "
            "index and its data"
        )
    return files


def read(prefix: str) -> dict[str, np.ndarray]:
    """Returns {name: array} of a checkpoint; `verify` it first."""
    with storage.plain_prefix(prefix) as plain:
        reader = tf.compat.v1.train.NewCheckpointReader(plain)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def thresholds(prefix: str) -> tuple[float, ...]:
    """Returns from which probability on a class is given, by class, as a checkpoint has it.

    Of a run whose images may have several classes.
    """
    with storage.plain_prefix(prefix) as plain:
        reader = tf.compat.v1.train.NewCheckpointReader(plain)
        return tuple(reader.get_tensor(THRESHOLDS).tolist())


def _clean_up(folder):
    """Removes what a failed save has written; returns what to say if that fails, too."""
    if folder is None:
        return ""
    try:
        _remove(folder)
        return ""
    except (tf.errors.OpError, OSError):
        return f"; '{folder}' is incomplete and will be removed by the next save"


def _refuse_not_finite(step, values):
    for name, value in values.items():
        if np.issubdtype(np.asarray(value).dtype, np.floating) and not np.isfinite(value).all():
            raise NotFinite(
                f"The state of step {step:,} is not finite ('{name}'), so it is not "
                "saved; older checkpoints are intact."
            )


def _write_manifest(folder, step):
    paths = {name: os.path.join(folder, name) for name in storage.names(folder)}
    files = {name: (storage.size(path), _hash(path)) for name, path in paths.items()}
    # A mark is whole, or not there.
    storage.write_text(
        os.path.join(folder, MANIFEST), json.dumps({"step": step, "files": files}, indent=1)
    )


def _hash(path):
    digest = hashlib.sha256()
    for chunk in storage.chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def step_of(path: str) -> int:
    """Returns the step of a checkpoint, by its folder or its prefix."""
    return _number(os.path.basename(path.removesuffix(f"/{PREFIX}")))[0]


def _number(name):
    """(step, how many there were of it before) of a folder's name."""
    step, _, again = name.partition("-")
    return int(step), int(again or 0)


def _next_folder(root, step):
    """A folder for a step, newer than complete ones of the same step: they may be needed still."""
    taken = [
        _number(os.path.basename(folder))[1]
        for folder in committed(root)
        if step_of(folder) == step
    ]
    name = f"{step:08}"
    if taken:
        name += f"-{max(taken) + 1}"
    folder = os.path.join(root, name)
    _remove(folder)
    return folder


def _folders(folder):
    """The checkpoints in a folder, complete or not, by step."""
    ours = [name for name in storage.names(folder) if _OURS.fullmatch(name)]
    return [os.path.join(folder, name) for name in sorted(ours, key=_number)]


def committed(folder: str) -> list[str]:
    """Returns the folders of the complete checkpoints in a folder, by step; unverified."""
    return [path for path in _folders(folder) if storage.exists(os.path.join(path, MANIFEST))]


def _remove(folder):
    """Removes a checkpoint, first its manifest: a half-removed one is not complete."""
    manifest = os.path.join(folder, MANIFEST)
    if tf.io.gfile.exists(manifest):
        tf.io.gfile.remove(manifest)
    if tf.io.gfile.exists(folder):
        tf.io.gfile.rmtree(folder)
