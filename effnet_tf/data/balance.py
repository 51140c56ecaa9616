"""How many images has each class, and what follows for its weight and its turns?"""

import numpy as np

from effnet_tf.data import order
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError, nearest, printable
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe, class_weights

SHOWN = 10  # classes that a message names


def weights(recipe: Recipe, source: Source) -> np.ndarray | None:
    """Returns the weight of each class in the loss, (classes,) float32; None: all have 1.

    Balanced weights are images / (classes * images of the class), over the classes that have
    some: the mean over the training images is 1, so that the learning rate means the same. Where
    images may have several names, a weight is of the loss of the images that have the name, and
    the balanced one is images without / images with it, so that both count the same.

    Args:
        recipe: its `class_weights` say it.
        source: the images to train on.

    Raises:
        InputError: how many images each class has is not known, or a file names other classes.
    """
    if recipe.class_weights is None:
        return None
    if recipe.class_weights == class_weights.BALANCED:
        return _balanced(source)
    return _of_names(class_weights.parse(recipe.class_weights), source.class_names)


def turns(recipe: Recipe, source: Source) -> order.Turns | None:
    """Returns in which turns the classes come in training; None: as often as they have images.

    Raises:
        InputError: which images a class has is not known.
    """
    if recipe.sampling == "natural":
        return None
    return order.Turns(_labels(source, "--sampling balanced"))


def tell(recipe: Recipe, source: Source) -> None:
    """Says what weights and turns do to the classes."""
    found = weights(recipe, source)
    if found is not None:
        by_weight = np.argsort(-found, kind="stable")
        named = [f"{printable(source.class_names[each])} {found[each]:.3g}" for each in by_weight]
        log.info(f"Weights of the classes in the loss: {_some(named)}")
    if recipe.sampling != "natural":
        counts = np.bincount(_labels(source, "--sampling balanced"))
        counts = counts[counts > 0]
        log.info(
            f"Balanced sampling: each of {len(counts)} classes comes equally often, the one of "
            f"{counts.min():,} images and the one of {counts.max():,}"
        )


def _some(named):
    if len(named) <= SHOWN:
        return ", ".join(named)
    half = SHOWN // 2
    return ", ".join([*named[:half], "...", *named[-half:]])


def _labels(source, option):
    """Returns the labels of the training images, (N,) int64."""
    labels = getattr(source.train, "labels", None)
    if labels is None:
        raise InputError(
            f"{option} needs to know the class of every image before the first step, and the "
            f"record files of {source.name} do not say it: use a folder or a table, or give "
            "--class_weights a file."
        )
    return labels


def _balanced(source):
    counts = np.bincount(_labels(source, "--class_weights balanced"), minlength=source.num_labels)
    if source.label_sets is not None:
        images, counts = counts.sum(), counts @ source.label_sets
        some = (counts > 0) & (counts < images)  # in others there is nothing to balance
        return np.where(some, (images - counts) / np.maximum(counts, 1), 1).astype(np.float32)
    there = counts > 0
    found = np.ones(len(counts), np.float32)
    found[there] = counts.sum() / (there.sum() * counts[there])
    return found


def _of_names(given, names):
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InputError(
            f"--class_weights names the class '{printable(unknown[0])}', which the data set does "
            f"not have. {nearest(unknown[0], names)}"
        )
    others = len(set(names) - set(given))
    if others:
        log.info(f"{others} class(es) that --class_weights does not name have the weight 1.")
    return np.array([given.get(name, 1.0) for name in names], np.float32)
