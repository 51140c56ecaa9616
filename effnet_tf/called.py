"""What is a command called where this program runs?

The documents are written for a checkout: `python -m export`. An installation has `effnet-export`,
and whoever came through the door (`effnet_tf/__main__.py`) calls everything by its verb.
"""

import os
import sys

# How the README, written in a checkout, calls what an installation calls otherwise.
INSTALLED = {
    "python train_tpu.py": "effnet-train",
    "python -m export": "effnet-export",
    "python -m effnet_tf ": "effnet ",
}
# What the same programs are called behind the door. The longer ones first: the door's own name is
# the beginning of theirs.
BEHIND_THE_DOOR = {
    "python train_tpu.py": "python -m effnet_tf train",
    "python -m export": "python -m effnet_tf export",
    "python -m effnet_tf.data": "python -m effnet_tf data",
    "python -m effnet_tf.scaling ": "python -m effnet_tf ",
    "python -m effnet_tf.search": "python -m effnet_tf search",
}
DOOR = "effnet"  # the installed command of the door


def as_called(text: str) -> str:
    """Returns a text of the README's commands, as they are typed where this program runs.

    `python -m export` and `python train_tpu.py` need a checkout; an installation has
    `effnet-export` and `effnet-train`. Behind the door both have `effnet export`, or
    `python -m effnet_tf export`.
    """
    names = {}
    if _is_behind_the_door():
        names.update(BEHIND_THE_DOOR)
    elif _is_installed():
        names.update(INSTALLED)
    if _program() == DOOR:
        names["python -m effnet_tf "] = f"{DOOR} "
    for here, there in names.items():
        text = text.replace(here, there)
    return text


def _program():
    return os.path.basename(sys.argv[0])


def _folder():
    return os.path.basename(os.path.dirname(sys.argv[0]))


def _is_behind_the_door():
    return _program() == DOOR or (_program(), _folder()) == ("__main__.py", "effnet_tf")


def _is_installed():
    if _program().startswith("effnet-"):
        return True
    if _program() == "train_tpu.py" or (_program(), _folder()) == ("__main__.py", "export"):
        return False
    return not os.path.exists("train_tpu.py")  # another program of ours, or a notebook
