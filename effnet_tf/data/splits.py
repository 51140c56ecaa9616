"""Which part of a data set is trained on, and which is held out?

One table knows what people call the parts, for folders, tables, record files and TFDS alike.
Where no part is there to evaluate on, one is drawn, the same for the same files.
"""

import hashlib
import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe

TRAIN_NAMES = ("train", "training", "trn")
# The first that is there is evaluated on: what belongs to development before the last test.
EVAL_NAMES = (
    "validation",
    "val",
    "valid",
    "validate",
    "dev",
    "devel",
    "development",
    "eval",
    "evaluation",
    "holdout",
    "heldout",
    "test",
    "testing",
    "tst",
)
# "Train_Set", "val2017", "test images": words beside the name that say nothing.
_FILLERS = ("set", "data", "dataset", "images", "imgs", "img", "split", "photos", "samples")


def _plain(name):
    """The name of a part as the tables have it: "Train-Set" is "train"."""
    words = [word for word in re.split(r"[\W_\d]+", name.casefold()) if word]
    meaning = [word for word in words if word not in _FILLERS]
    plain = "".join(meaning)  # "hold-out"
    if len(meaning) == 1 and plain.endswith("set"):  # "trainset"
        return plain.removesuffix("set")
    return plain


def is_train(name: str) -> bool:
    """Whether a name is what people call the training part."""
    return _plain(name) in TRAIN_NAMES


def is_eval(name: str) -> bool:
    """Whether a name is what people call a part to evaluate on."""
    return _plain(name) in EVAL_NAMES


def choose(names: Sequence[str], recipe: Recipe, where: str) -> tuple[str | None, str | None]:
    """Returns the names of the parts (to train on, to evaluate on); None where there is none.

    --train_split and --eval_split are returned as they are given, whether there or not. Prints
    what else could have been meant.

    Args:
        names: of all parts there are.
        recipe: a `Recipe`.
        where: the data set, for messages.

    Raises:
        InputError: several parts could be the one to train on.
    """
    train = recipe.train_split or _training(names, where)
    held_out = [name for name in names if is_eval(name) and name != train]
    held_out.sort(key=lambda name: (EVAL_NAMES.index(_plain(name)), name))
    if recipe.eval_split:
        return train, recipe.eval_split
    if len(held_out) > 1:
        log.info(
            f"{where}: evaluating on '{held_out[0]}'; not used: {', '.join(held_out[1:])} "
            "(choose with --eval_split)."
        )
    return train, next(iter(held_out), None)


def _training(names, where):
    if "train" in names:
        return "train"
    found = sorted(name for name in names if is_train(name))
    if len(found) > 1:
        raise InputError(
            f"{where} has several parts to train on, {', '.join(found)}: choose one "
            "with --train_split."
        )
    return next(iter(found), None)


def hold_out(keys: Iterable[str], labels: Iterable[Any], fraction: float) -> list[bool]:
    """Draws within every class which rows are held out.

    In each class those whose names have the smallest hashes: the same for the same names, in
    whatever order they come. Of two images or more, one at least is held out, and one at
    least is trained on. Where images are added to a class of n, the others keep their sides,
    but for the few that the new ones push over the limit.

    Args:
        keys: name of each row; rows of one name and class stay together.
        labels: label of each row.
        fraction: to hold out, in [0, 1]; 0: none.
    """
    keys, labels, of_class = list(keys), list(labels), {}
    for key, label in zip(keys, labels):
        of_class.setdefault(label, set()).add(key)
    chosen = set()
    for label, names in of_class.items():
        ranked = sorted(names, key=lambda name: (_hash(name), name))
        chosen.update((label, name) for name in ranked[: _share(len(names), fraction)])
    return [(label, key) in chosen for key, label in zip(keys, labels)]


def _share(count, fraction):
    if not fraction or count < 2:
        return 0
    return min(max(1, math.floor(fraction * count + 0.5)), count - 1)


def _hash(name):
    return hashlib.sha256(os.fsencode(name)).digest()


def divide(
    rows: Sequence[Any], keys: Iterable[str], labels: Iterable[Any], fraction: float
) -> tuple[list, list]:
    """Returns (rows to train on, held-out rows), as `hold_out` draws them."""
    train, held_out = [], []
    for row, is_held_out in zip(rows, hold_out(keys, labels, fraction)):
        if is_held_out:
            held_out.append(row)
        else:
            train.append(row)
    return train, held_out


def rarest(labels: np.ndarray, label_sets: np.ndarray) -> list[int]:
    """Returns for each row its rarest class, so that each class has its share held out.

    Args:
        labels: (N,) int64, rows of `label_sets`.
        label_sets: (labels, classes) bool.

    Returns:
        N classes; of equally rare ones the first, and -1 for a row of no class.
    """
    images = np.bincount(labels, minlength=len(label_sets)) @ label_sets
    ranks = np.where(label_sets, images, len(labels) + 1).argmin(1)
    classes = np.where(label_sets.any(1), ranks, -1)
    return classes[labels].tolist()


def hold_out_records(sizes: Sequence[int], skips: Sequence[int], fraction: float) -> np.ndarray:
    """Draws which records of numbered files are held out, without reading any of them.

    One in each window of 1 / `fraction` neighbours, at a place that a hash of the file's
    number and the window's draws. So classes have their share both where records come class
    by class and where they are shuffled, and a record keeps its side while its file does.

    Args:
        sizes: records of each file.
        skips: number of each file's first record.
        fraction: to hold out, in [0, 1]; 0: none.

    Returns:
        (sum of the sizes,) bool.
    """
    parts = [
        _in_windows(file, np.arange(skip, skip + size), fraction)
        for file, (size, skip) in enumerate(zip(sizes, skips))
    ]
    drawn = np.concatenate(parts or [np.zeros(0, bool)])
    if fraction and len(drawn) > 1:
        if not drawn.any():
            drawn[-1] = True
        if drawn.all():
            drawn[0] = False
    return drawn


def _in_windows(file, numbers, fraction):
    """Which records of a file are held out: (n,) int64 -> (n,) bool."""
    if not fraction or not len(numbers):
        return np.zeros(len(numbers), bool)
    places = []
    for window in range(int(numbers[0] * fraction), int(numbers[-1] * fraction) + 1):
        # The whole window's place is drawn, also where the file ends before it does.
        first, end = math.ceil(window / fraction), math.ceil((window + 1) / fraction)
        draw = int.from_bytes(_hash(f"{file}/{window}")[:8], "big")
        places.append(first + draw % (end - first))
    return np.isin(numbers, places)
