"""What does a run write into its directory, and how is it taken back if nothing was saved?

recipe.json      every hyper-parameter, written first
classes.json     the class names, in the order of the labels
source.json      the data set: how many images it has, and its fingerprint
checkpoints/     the newest checkpoints, see checkpoints.py
best/            that of the best evaluation, with --keep best
metrics.jsonl    one line per epoch; metrics.csv has the same
bad_examples.jsonl  images that could not be used, and why; with several workers, of the
                 first; bad_examples-N.jsonl is of the others
learning_curve.png, augmented.png, tensorboard/
goodput.json     where the time went
result.json      the last line of metrics.jsonl, once training is complete
.lock, owner.json  which process writes here
"""

import os
import re
import socket

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.messages import log
from effnet_tf.runs import checkpoints

RUN_FILES = (
    "recipe.json",
    "classes.json",
    "source.json",
    "metrics.jsonl",
    "metrics.csv",
    "checkpoints",
    "best",
    "learning_curve.png",
    "augmented.png",
    "tensorboard",
    "goodput.json",
    "result.json",
    "bad_examples.jsonl",
    "owner.json",
    ".lock",
)


def make_folders(workdir: str) -> list[str]:
    """Makes a folder and those above it; returns the new ones, the innermost first."""
    made, folder = [], workdir.rstrip("/")
    while folder and "://" not in workdir and not os.path.lexists(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    if "://" in workdir and not tf.io.gfile.exists(workdir):
        made.append(folder)
    tf.io.gfile.makedirs(workdir)
    return made


def _own_files():
    """What this process writes: patterns of folders below the workdir, and of files in them."""
    top = "|".join(re.escape(name) for name in RUN_FILES[1:]) + r"|bad_examples-\d+\.jsonl"
    return (
        # .index, .data-00000-of-00001, and where TensorFlow writes them first.
        (r"(checkpoints|best)/\d+(-\d+)?/state.*_temp", r"part-.*"),
        (
            r"(checkpoints|best)/\d+(-\d+)?",
            rf"{checkpoints.PREFIX}\..*|{checkpoints.MANIFEST}(\.tmp)?",
        ),
        (r"checkpoints|best", r"(?!)"),  # no file: only those folders
        # Host and process are in the names of TensorBoard's files, and the host in a profile's.
        (r"tensorboard/plugins/profile/[\d_]+", rf"{re.escape(socket.gethostname())}\.xplane\.pb"),
        (r"tensorboard/plugins/profile", r"(?!)"),
        (r"tensorboard/plugins", r"(?!)"),
        (
            r"tensorboard",
            rf"events\.out\.tfevents\..*\.{re.escape(socket.gethostname())}"
            rf"\.{os.getpid()}\..*",
        ),
        ("", rf"({top})(\.tmp)?"),
        ("", r"recipe\.json(\.tmp)?"),  # last: without it the rest looks like somebody else's
    )


def remove_run(workdir: str, foreign: list[str], made: list[str]) -> None:
    """Removes what a new run wrote, file by file, and the folders that are empty then.

    Args:
        workdir: of the run.
        foreign: names that were in it before.
        made: the folders that the run made for it, the innermost first.
    """
    for folder, files in _own_files():
        for home in _own_folders(workdir, folder):
            if home == workdir:
                _remove_files(home, files, kept=foreign)
            else:
                _remove_files(home, files, kept=())
                _remove_if_empty(home)
    remove_while_empty(made)
    if made and tf.io.gfile.exists(workdir):
        log.info(
            f"'{workdir}' stays, because it holds files that this run did not write: "
            f"{', '.join(sorted(storage.names(workdir)))}."
        )


def _remove_files(folder, pattern, kept):
    """Removes the files of a folder whose whole name matches, but those kept."""
    for name in storage.names(folder):
        path = os.path.join(folder, name)
        ours = re.fullmatch(pattern, name) and name not in kept
        if ours and not tf.io.gfile.isdir(path):
            tf.io.gfile.remove(path)


def _own_folders(workdir, pattern):
    """Returns the folders of a run that a row of `_own_files` names: the workdir for ""."""
    folders = [workdir]
    for part in filter(None, pattern.split("/")):
        folders = [
            os.path.join(folder, name)
            for folder in folders
            for name in storage.names(folder)
            if re.fullmatch(part, name)
        ]
    return [folder for folder in folders if tf.io.gfile.isdir(folder)]


def remove_while_empty(folders: list[str]) -> None:
    """Removes folders, the innermost first, up to the first that holds something."""
    for folder in folders:
        if not _remove_if_empty(folder):
            return


def _remove_if_empty(folder):
    """Removes a folder that holds nothing; returns whether it did."""
    if storage.names(folder):
        return False
    if "://" in folder:
        tf.io.gfile.rmtree(folder)
        return True
    try:
        os.rmdir(folder)  # refuses by itself what somebody has put there since
    except OSError:
        return False
    return True
