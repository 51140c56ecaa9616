"""How are a network's images cut, its classes called, how many of them meant, if it is not said?"""

import dataclasses
from collections.abc import Sequence

import keras

from effnet_tf import class_names
from effnet_tf.data import crops
from effnet_tf.errors import InputError, printable
from effnet_tf.inference.options import IMAGENET
from effnet_tf.messages import log
from effnet_tf.models import imagenet_classes
from effnet_tf.recipes import RECIPES, Recipe


def recipe(
    crop: int | float | None,
    default: int,
    size: int,
    path: str,
    normalised: bool = False,
    kind: str = "v1",
) -> Recipe:
    """Returns a recipe with the evaluation crop that the user said; tells a default.

    Args:
        crop: padding in pixels, or fraction of the short side; None: nobody said.
        default: padding in pixels that is taken then.
        size: side of the network's images, in pixels.
        path: of the network, for messages.
        normalised: whether its metadata say how its pixels are normalised.
        kind: of the crop where nobody said one, see `data/crops.py`.
    """
    pixels = "pixels in [0, 255]"
    if normalised:
        pixels = "pixels normalised as its metadata say"
    if crop is None:
        part = crops.told(size, default, kind)
        if "short side" in part:
            part = f"a central square of {part}"
        log.info(
            f"'{printable(path)}' does not say how its images are cut: took {part}, {pixels} "
            "(--crop says otherwise)."
        )
        return dataclasses.replace(RECIPES["small"], eval_crop_padding=default, crops=kind)
    if isinstance(crop, float):
        crop = crops.padding_of(crop, size)
    return dataclasses.replace(RECIPES["small"], eval_crop_padding=crop)


def names(found: Sequence[str], labels: str | None, classes: int, path: str) -> tuple[str, ...]:
    """Returns the names of a network's classes: those it has, or those of --labels; or ().

    Args:
        found: those that are in its file.
        labels: a file of names, or `IMAGENET`; None: nobody said.
        classes: how many it has.
        path: of the network, for messages.

    Raises:
        InputError: there are not as many in `labels`.
    """
    own = class_names.fitting(tuple(found), classes)
    if len(own) == classes:
        if labels:
            log.info(f"'{printable(path)}' names its classes itself: --labels is not used.")
        return tuple(own)
    given = class_names.fitting(read_labels(labels, classes), classes)
    if given and len(given) != classes:
        raise InputError(
            f"'{path}' has {classes:,} classes, and '{labels}' has {len(given):,} names: give one "
            "per line."
        )
    if own and not given:
        log.info(
            f"'{printable(path)}' has {len(own):,} names for its {classes:,} classes, so they "
            "are not used."
        )
    return tuple(given)


def one_class(model: keras.Model | None, path: str) -> None:
    """Tells that images are taken to have one class, of a Keras model that may mean several.

    A .keras file keeps neither names nor thresholds, but the sigmoid of a network for several.

    Args:
        model: of a file that says nothing about itself; None: it is no Keras model.
        path: of the file, for messages.
    """
    if model is None or model.output_shape[-1] == 1:
        return
    if getattr(model.layers[-1], "activation", None) is keras.activations.sigmoid:
        log.info(
            f"'{printable(path)}' ends in a sigmoid, as networks for several names per image, but "
            "has no thresholds: each image is taken to have one class. The run that it was trained "
            "in, and files of python -m export, have them."
        )


def read_labels(path: str | None, classes: int = imagenet_classes.CLASSES + 1) -> tuple[str, ...]:
    """Returns the class names that --labels means: in a file, or of `IMAGENET`; () without it.

    Args:
        path: the file.
        classes: of the network: ImageNet's names are 1,000, or 1,001 with the background.
    """
    if path is None:
        return ()
    if path == IMAGENET:
        return imagenet_classes.names(classes)
    return class_names.read(path)
