"""Where is the checkpoint that a path names: a prefix, its folder, a run, an extracted archive?

Names are never taken for patterns, and a checkpoint of train_tpu.py is only handed out if it
is intact.
"""

import os
import re

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError, first_line
from effnet_tf.runs import checkpoints


def latest_checkpoint(folder: str) -> str | None:
    """Returns the prefix of the newest checkpoint in a folder, or None.

    Raises:
        InputError: the folder's `checkpoint` file, which names it, is damaged.
    """
    path = os.path.join(folder, "checkpoint")
    if not storage.exists(path) or storage.is_folder(path):
        return None
    try:
        storage.read_bytes(path, 1 << 24)  # it is a file, and of a size to be read
        # Not latest_checkpoint, to which the folder's name is a pattern.
        state = tf.train.get_checkpoint_state(folder)
    except ValueError as error:
        raise InputError(
            f"'{path}' is damaged ({first_line(error)}). Remove it, or write into "
            'it: model_checkpoint_path: "NAME OF THE NEWEST .index, without '
            'it".'
        ) from error
    if state is None:  # TensorFlow has said why
        return None
    # In a copied folder it may name the checkpoint's old place.
    here = os.path.join(folder, os.path.basename(state.model_checkpoint_path))
    found = (
        prefix
        for prefix in (here, state.model_checkpoint_path)
        if storage.exists(f"{prefix}.index")
    )
    return next(found, None)


def checkpoint_prefix(path: str) -> str | None:
    """Returns the checkpoint that `path` names (a prefix, its folder, a run), or None.

    Raises:
        InputError: it is one of train_tpu.py and damaged, or there are several.
    """
    path = path.rstrip("/")
    for folder in (path, f"{path}/checkpoints"):
        ours = checkpoints.newest(folder)
        if ours:
            return ours
        if checkpoints.committed(folder):
            raise InputError(
                f"All checkpoints in '{folder}' are damaged: restore the run from a copy."
            )
    for folder in (path, f"{path}/checkpoints"):
        latest = latest_checkpoint(folder)
        if latest:
            return _unharmed(latest)
    # A `checkpoint` file may be missing, or name a place of the machine that wrote it; an
    # archive may have a folder inside.
    prefixes = _prefixes([path]) or _prefixes(
        [os.path.join(path, name) for name in storage.names(path)]
    )
    if len(prefixes) > 1:
        raise InputError(
            f"'{path}' holds {len(prefixes)} checkpoints, and no `checkpoint` file "
            f"that says which is the newest: name one, such as '{prefixes[0]}'."
        )
    if prefixes:
        return _unharmed(prefixes[0])
    prefix = re.sub(r"\.(index|data-\d+-of-\d+)$", "", path)
    return _unharmed(prefix) if storage.exists(f"{prefix}.index") else None


def _prefixes(folders):
    """Returns the checkpoints that lie in folders."""
    found = []
    for folder in folders:
        found += [
            os.path.join(folder, name.removesuffix(".index"))
            for name in storage.names(folder)
            if name.endswith(".index")
        ]
    return found


def _unharmed(prefix):
    """Returns a prefix; refuses one of train_tpu.py that is damaged."""
    folder = os.path.dirname(prefix)
    if os.path.basename(prefix) == checkpoints.PREFIX and storage.exists(
        os.path.join(folder, checkpoints.MANIFEST)
    ):
        harm = checkpoints.verify(folder)
        if harm:
            raise InputError(f"The checkpoint '{prefix}' is damaged ({harm}): use another one.")
    return prefix
