"""What takes the place of `keras.applications`' EfficientNets in a program?

A constructor per variant with its arguments, `preprocess_input` and `decode_predictions`.
"""

import os
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.layers.shapes import Shape
from effnet_tf.models import imagenet_classes
from effnet_tf.models.build import model_fn
from effnet_tf.variants import (
    BASELINES,
    CONDCONVS,
    CONSTRUCTORS,
    EFFICIENTNETS_V2,
    VARIANTS,
    model_name,
)

Images = TypeVar("Images", np.ndarray, tf.Tensor)


def _constructor(function_name, variant):
    """Returns the drop-in constructor of one variant, which has no name of its own yet."""
    build = _plain_constructor(function_name, variant)
    if variant in EFFICIENTNETS_V2.values():
        return _with_include_preprocessing(build, variant)
    return build


def _plain_constructor(function_name, variant):
    """Returns a function with the arguments of `keras.applications.EfficientNetB0`."""

    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = _default_weights(variant),  # noqa: B008
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int = variant.num_classes,
        classifier_activation: str | None = "softmax",
        name: str = function_name.lower(),  # noqa: B008  (of the constructor, not of a call)
        *,
        dropout_rate: float | None = None,
        drop_connect_rate: float = 0.2,
        batch_norm_momentum: float | None = None,
        preprocessing: bool | str = True,
        family: str | None = None,
    ) -> keras.Model:
        images: dict = dict(input_tensor=input_tensor, input_shape=input_shape, pooling=pooling)
        top: dict = dict(include_top=include_top, classifier_activation=classifier_activation)
        rates: dict = dict(dropout_rate=dropout_rate, drop_connect_rate=drop_connect_rate)
        scales: dict = dict(preprocessing=preprocessing, batch_norm_momentum=batch_norm_momentum)
        options = images | top | rates | scales
        count = classes if classes != variant.num_classes else None  # of the family, then
        return model_fn(
            variant, count, weights=weights, family=family, flat=True, name=name, **options
        )

    return build


def _with_include_preprocessing(plain, variant):
    """Returns a function with the arguments of `keras.applications.EfficientNetV2B0`."""

    def build(
        include_top: bool = True,
        weights: str | os.PathLike | None = _default_weights(variant),  # noqa: B008
        input_tensor: keras.KerasTensor | None = None,
        input_shape: Shape | None = None,
        pooling: str | None = None,
        classes: int = variant.num_classes,
        classifier_activation: str | None = "softmax",
        include_preprocessing: bool = True,
        name: str = model_name(variant),  # noqa: B008  (of the constructor, not of a call)
        *,
        dropout_rate: float | None = None,
        drop_connect_rate: float = 0.2,
        batch_norm_momentum: float | None = None,
        preprocessing: bool | str = True,
        family: str | None = None,
    ) -> keras.Model:
        preprocessing = include_preprocessing and preprocessing
        images: dict = dict(input_tensor=input_tensor, input_shape=input_shape, pooling=pooling)
        top: dict = dict(classes=classes, classifier_activation=classifier_activation, name=name)
        rates: dict = dict(dropout_rate=dropout_rate, drop_connect_rate=drop_connect_rate)
        scales: dict = dict(preprocessing=preprocessing, batch_norm_momentum=batch_norm_momentum)
        return plain(include_top, weights, family=family, **images, **top, **rates, **scales)

    return build


def _default_weights(variant):
    if variant in BASELINES.values():
        return None  # of these there are files alone
    if variant is EFFICIENTNETS_V2["EfficientNetV2XL"]:
        return "imagenet21k-ft1k"  # which all others have besides
    return "imagenet"


_EFFICIENTNET = """as keras.applications does.

    Arguments and meaning are those of `keras.applications.EfficientNetB0`: pixels in
    [0, 255], `include_top=False` gives the feature map of `top_activation`, and the graph
    is made of the same Keras layers under the same names, so that a saved model loads
    without this package. But it does not change with `weights`. See also `model_fn`."""
_BASELINE = """of Keras' own layers.

    It computes what keras.applications' network of this name does with the same weights,
    whose files it reads, but takes pixels in [0, 255] and normalises them itself. Arguments
    and names of layers are those of our other constructors. See also `model_fn`."""


_CONDCONV = """EfficientNet-B0 whose last kernels are mixed for each image.

    keras.applications has none; arguments and names of layers are those of our other
    constructors. A saved model needs this package to load. See also `model_fn`."""
_EFFICIENTNET_V2 = """as keras.applications does.

    Arguments and meaning are those of `keras.applications.EfficientNetV2B0`: pixels in
    [0, 255], `include_top=False` gives the feature map of `top_activation`, and the graph
    is made of the same Keras layers under the same names, so that a saved model loads
    without this package. But blocks are dropped as the original code does it, see
    `models/flat.py`. See also `model_fn`."""
_INCLUDE_PREPROCESSING = """
        include_preprocessing: whether the model normalises its pixels; False is
            `preprocessing=False`."""


def _about(variant):
    """Returns what a family has of its own: its description, `weights`, one more argument."""
    if variant in BASELINES.values():
        return _BASELINE, "a file, or None for random weights", ""
    weights = '"imagenet" or another published name, a file, or None for random weights'
    if variant in CONDCONVS.values():
        return _CONDCONV, weights, ""
    if variant in EFFICIENTNETS_V2.values():
        return _EFFICIENTNET_V2, weights, _INCLUDE_PREPROCESSING
    return _EFFICIENTNET, weights, ""


def _constructor_doc(name, variant):
    about, weights, v2 = _about(variant)
    return f"""Builds {name}, {about}

    Args:
        include_top: whether pooling, dropout and classifier are there.
        weights: {weights}.
        input_tensor: a Keras tensor to build on.
        input_shape: (H, W, C), by default {variant.resolution} pixels with a classifier.
        pooling: without a classifier: None, "avg" or "max".
        classes: classes of the classifier.
        classifier_activation: activation of the classifier; None gives logits.{v2}
        name: of the model.
        dropout_rate: before the classifier; by default {variant.dropout_rate}.
        drop_connect_rate: end of the ramp of stochastic depth; paper 0.2.
        batch_norm_momentum: of the moving statistics; 0.9 suits a few hundred steps, 0.99 many.
        preprocessing: "imagenet", "inception", "lite" or "v2"; False where the caller normalises
            the pixels; True for what belongs to the weights.
        family: whose weights these are, see `model_fn`.

    Returns:
        A `keras.Model` from images (N, H, W, C) in [0, 255] to float32 class scores
        (N, classes), or to features.

    Raises:
        InputError: a bad argument; the sentence says which.
    """


def _define_constructors():
    """Makes them functions of this module."""
    for name, variant_name in CONSTRUCTORS.items():
        variant = VARIANTS[variant_name]
        function = _constructor(name, variant)
        function.__name__ = function.__qualname__ = name
        function.__doc__ = _constructor_doc(name, variant)
        globals()[name] = function


_define_constructors()


def preprocess_input(x: Images, data_format: str | None = None) -> Images:
    """Returns `x` as it is: the models normalise pixels in [0, 255] themselves.

    It is here for programs written for keras.applications, where it does the same.

    Args:
        x: images (N, H, W, C), or one of them, of any dtype, in [0, 255].
        data_format: unused, as in keras.applications.
    """
    del data_format
    return x


def decode_predictions(
    preds: np.ndarray | tf.Tensor, top: int = 5
) -> list[list[tuple[str, str, float]]]:
    """Names the most probable ImageNet classes, as keras.applications does.

    Args:
        preds: (N, 1000) scores, or (N, 1001) with the background first (EdgeTPU).
        top: how many classes per image.

    Returns:
        A list per image of (WordNet id, name, score), best first.

    Raises:
        InputError: another number of classes.
    """
    preds = np.asarray(preds)
    _check_scores(preds)
    return [_best(scores, top) for scores in preds[:, -imagenet_classes.CLASSES :]]


def _best(scores, top):
    """The most probable classes of one image."""
    found = []
    for label in scores.argsort()[-top:][::-1]:
        number, name = imagenet_classes.synsets()[label]
        found.append((number, name.replace(" ", "_"), scores[label]))
    return found


def _check_scores(preds):
    if preds.ndim != 2 or preds.shape[1] not in (1000, 1001):
        raise InputError(
            "decode_predictions names the 1000 classes of ImageNet; it got an array "
            f"of shape {preds.shape}, not (N, 1000)."
        )
