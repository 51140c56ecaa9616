"""Which network is asked: of a run, of weights, or in a file of any kind?

All of them become a `Subject`: a function from RGB images with pixels in [0, 255] to scores, the
names of its classes, and the crop that makes its images of photographs.
"""

import dataclasses
import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import multilabel, storage
from effnet_tf.errors import InputError, nearest
from effnet_tf.export import identify, runtimes
from effnet_tf.export.layout import Layout
from effnet_tf.inference import metrics, unsaid
from effnet_tf.messages import log
from effnet_tf.models import build
from effnet_tf.recipes import RECIPES, Recipe
from effnet_tf.runs import checkpoints, locate, texts
from effnet_tf.variants import find_variant
from effnet_tf.weights import loading, model_names, published, reading

CROP_PADDING = 32  # main.py's; of weights whose crop nobody said


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network that can be asked.

    Attributes:
        name: what it is, for people.
        path: that the user gave.
        scores: (N, H, W, 3) float32 or uint8 in [0, 255], or images of the layout's channels ->
            (N, classes) float32, probabilities or logits.
        gives_logits: whether these are logits; None: nobody knows, so that it is looked at.
        classes: how many it has.
        class_names: in the order of the scores; () where nobody named them.
        layout: the images that it takes.
        recipe: whose evaluation crop makes its images.
        is_run: whether it is a run directory, which has images of its own.
        model: the Keras model that computes the scores; None of files without one.
        features: (N, H, W, C) as `scores` takes them -> (N, F) float32, of files without a Keras
            model that tell what their classifier reads, as SavedModels of ours; else None.
        thresholds: (classes,) float64, from which probability on a class is given, where an image
            may have several; None: an image has one class.
    """

    name: str
    path: str
    scores: Callable[[np.ndarray], np.ndarray]
    gives_logits: bool | None
    classes: int
    class_names: tuple[str, ...]
    layout: Layout
    recipe: Recipe
    is_run: bool = False
    model: keras.Model | None = None
    features: Callable[[np.ndarray], np.ndarray] | None = None
    thresholds: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its images, in pixels."""
        return self.layout.image_shape[1], self.layout.image_shape[2]  # type: ignore[return-value]

    def answer(self, images: np.ndarray) -> np.ndarray:
        """Returns probabilities, (N, classes) float64, of images as `scores` takes them."""
        of_logits, of_any = metrics.softmax, metrics.probabilities
        if self.thresholds is not None:
            of_logits, of_any = multilabel.probabilities, metrics.independent
        if self.gives_logits:
            return of_logits(self.scores(images))
        return of_any(self.scores(images))


@dataclasses.dataclass(frozen=True)
class Options:
    """What the user says of a network beside its path.

    Attributes:
        variant: of weights: the name of their network, or a file of one.
        labels: a file of class names, one per line, or 'imagenet'; of networks without names.
        crop: padding in pixels (int) or fraction of the short side (float) of the central crop;
            of networks that do not say it.
        trust: whether a SavedModel may do more than compute on tensors.
    """

    variant: str | None = None
    labels: str | None = None
    crop: int | float | None = None
    trust: bool = False


def open_subject(path: str, options: Options | None = None) -> Subject:
    """Opens a network, whatever it is stored as.

    Args:
        path: a run directory; a .tflite, .onnx or .keras file or SavedModel, ours or others';
            or, with `options.variant`, weights of any known origin, or their published name.
        options: what else the user said.

    Raises:
        InputError: there is nothing that can be used at `path`, or it takes something else than
            images of one size.
    """
    options = options or Options()
    if options.variant is not None:
        return _of_weights(path, options)
    if is_run(path):
        return _of_run(path)
    if path in published.PUBLISHED and not storage.exists(path):
        raise InputError(f"'{path}' are published weights: say of which network with --variant.")
    return _of_file(path, options)


def is_run(path: str) -> bool:
    """Whether a path is that of a run directory."""
    return storage.exists(os.path.join(path, "recipe.json"))


# --- runs and weights -------------------------------------------------------------------------


def _of_run(path):
    """The network of a run with averaged weights, as its training evaluates it."""
    recipe, names = texts.read_run(path)
    model = build.model_fn(recipe.resolved_variant(), len(names), classifier_activation=None)
    prefix, thresholds = path, None
    if recipe.labels == "multi":
        prefix, thresholds = locate.with_thresholds(path)
    loading.load_weights(model, prefix, family=recipe.family)
    found = _of_model(f"run '{path}'", path, model, names, recipe, is_run=True)
    return dataclasses.replace(found, thresholds=_array(thresholds))


def _array(thresholds):
    """Thresholds as numbers to compare with; None of one class per image."""
    if thresholds is None:
        return None
    return np.array(thresholds, "float64")


def _of_weights(path, options):
    variant = find_variant(options.variant)
    model = _built(path, variant)
    report = loading.load_weights(model, path, variant=variant)
    log.info(str(report))
    recipe = unsaid.recipe(options.crop, CROP_PADDING, variant.resolution, path, kind=variant.crops)
    names = unsaid.names((), options.labels, model.output_shape[-1], path)
    found = _of_model(f"'{path}' as {variant.name}", path, model, names, recipe)
    return dataclasses.replace(found, thresholds=_array(_thresholds_beside(path)))


def _thresholds_beside(path):
    """The thresholds of a checkpoint in a run whose images have several names, else None."""
    run = locate.run_of(path)
    if run is None or texts.read_run(run)[0].labels != "multi":
        return None
    prefix = locate.checkpoint_prefix(path)
    if prefix is None:  # weights of another format, which somebody put there
        return None
    return checkpoints.thresholds(prefix)


def _built(path, variant):
    """Returns the network that weights are for, with as many classes as they have."""
    family = loading.family_of(path, variant)

    def make(classes):
        return build.model_fn(variant, classes, classifier_activation=None, family=family)

    model = make(None)
    if path in published.PUBLISHED:
        return model
    variables = model_names.canonical(model)
    held = reading.read(path, True, model_names.target(model, variables))
    if "predictions/kernel" not in held.values:
        raise InputError(f"'{path}' has no classifier, so it cannot answer.")
    classes = held.values["predictions/kernel"][1].shape[-1]
    if classes == model.output_shape[-1]:
        return model
    return make(classes)


def _of_model(name, path, model, names, recipe, is_run=False) -> Subject:
    size = model.input_shape[1]
    compiled = tf.function(
        lambda images: model(images, training=False),
        input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)],
        autograph=False,
    )

    def scores(images: np.ndarray) -> np.ndarray:
        return compiled(tf.constant(images, tf.float32)).numpy()

    layout = Layout(path, "images", (None, size, size, 3), "float32", channels_first=False)
    classes = model.output_shape[-1]
    return Subject(name, path, scores, True, classes, tuple(names), layout, recipe, is_run, model)


# --- files ------------------------------------------------------------------------------------


def _of_file(path, options):
    _check_there(path)
    classifier = runtimes.load(path, options.trust)
    about = identify.about(path)
    layout = _sized(path, classifier.layout, about)

    def scores(images: np.ndarray) -> np.ndarray:
        if images.shape[-1] != layout.channels:
            images = layout.from_rgb(images)
        return classifier(images)

    height, width = layout.image_shape[1:3]
    classes = scores(np.zeros((1, height, width, 3), "float32")).shape[-1]
    names = unsaid.names(identify.class_names(path), options.labels, classes, path)
    if about is None:
        unsaid.one_class(classifier.model, path)
    return Subject(
        f"{identify.kind(path)} '{path}'",
        path,
        scores,
        None,
        classes,
        names,
        layout,
        _recipe_of_file(path, options, layout, about),
        model=classifier.model,
        features=classifier.features,
        thresholds=_array(about and about.chosen_thresholds(classes)),
    )


def _recipe_of_file(path, options, layout, about):
    """Returns a recipe whose evaluation crop is that of a file."""
    if about is None and layout.image_shape[1] != layout.image_shape[2]:
        return RECIPES["small"]  # nothing is cut: photos.py says it
    if about is None:
        normalised = identify.normalization(path) is not None
        return unsaid.recipe(options.crop, 0, layout.image_shape[1], path, normalised)
    return dataclasses.replace(
        RECIPES["small"],
        eval_crop_padding=about.crop_padding,
        exif_rotation=about.exif_rotation,
        scaled_decode=about.scaled_decode,
        crops=about.crop_kind,
    )


def _check_there(path):
    """Says what could be meant where a folder is no network, and where there is nothing."""
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, "saved_model.pb")):
        raise InputError(
            f"The folder '{path}' is neither a run (it has no recipe.json) nor a SavedModel (no "
            "saved_model.pb). Weights need --variant."
        )
    if os.path.isfile(path) and path.endswith((".pth", ".safetensors", ".weights.h5")):
        raise InputError(f"'{path}' holds weights: say of which network with --variant.")
    parent = os.path.dirname(path) or "."
    if not os.path.lexists(path) and os.path.isdir(parent):
        found = os.listdir(parent)
        if found and "\0" not in path:
            hint = nearest(os.path.basename(path), found, 0.6, 1)
            if hint.startswith("Did"):
                raise InputError(f"There is no file or run '{path}'. {hint}")


def _sized(path, layout, about):
    """Returns a layout whose sides are known."""
    height, width = layout.image_shape[1:3]
    if about is not None:
        height, width = height or about.image_size, width or about.image_size
    if not height or not width:
        raise InputError(
            f"'{path}' takes images of any size and does not say which size it was trained on, so "
            "image files cannot be prepared for it."
        )
    sides = (layout.image_shape[0], height, width, layout.channels)
    if layout.channels_first:
        sides = (sides[0], sides[3], height, width)
    return dataclasses.replace(layout, shape=sides)
