"""Where is the checkpoint that a path names: a prefix, its folder, a run, an extracted archive?

Names are never taken for patterns, and a checkpoint of train_tpu.py is only handed out if it
is intact.
"""

import os
import re

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError, first_line
from effnet_tf.messages import log
from effnet_tf.runs import checkpoints, texts

LAST, BEST = "checkpoints", "best"  # folders of a run


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

    Of a run that keeps its best checkpoint, this one.

    Raises:
        InputError: it is one of train_tpu.py and damaged, or there are several.
    """
    path = path.rstrip("/")
    for folder in (path, *_folders(path)):
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


def _folders(run):
    """Returns the folders of a run in which to look for its checkpoint, the first one first."""
    last, best = os.path.join(run, LAST), os.path.join(run, BEST)
    kept = checkpoints.committed(best)
    if not kept or texts.read_recipe(os.path.join(run, "recipe.json")).keep != "best":
        return [last]
    log.info(
        f"Of the run '{run}' the checkpoint of the best evaluation is taken, step "
        f"{checkpoints.step_of(kept[-1]):,}; '{last}' is that of the last one."
    )
    return [best]


def chosen(run: str, which: str | None) -> str:
    """Returns the path that names a run's "best" or "last" checkpoint; None: as it keeps them.

    Raises:
        InputError: it has no best one.
    """
    if which is None:
        return run
    path = os.path.join(run, {"last": LAST, "best": BEST}[which])
    if which == "best" and not checkpoints.committed(path):
        raise InputError(
            f"The run '{run}' has no best checkpoint: it was trained without --keep best. Take its "
            "last one."
        )
    return path


def with_thresholds(path: str) -> tuple[str, tuple[float, ...]]:
    """Returns the checkpoint that a run or its folder has, and its thresholds by class.

    Args:
        path: as of `checkpoint_prefix`, of a run whose images may have several names.

    Raises:
        InputError: there is no checkpoint, or it is damaged.
    """
    prefix = checkpoint_prefix(path)
    if prefix is None:
        raise InputError(f"The run '{path}' has no checkpoint yet: let it train.")
    return prefix, checkpoints.thresholds(prefix)


def run_of(path: str) -> str | None:
    """Returns the run directory that a path is, or lies in: at most a checkpoint's prefix deep."""
    path = path.rstrip("/")
    for _ in range(4):
        if path and storage.exists(os.path.join(path, "recipe.json")):
            return path
        path = os.path.dirname(path)
    return None


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
