"""Which pixels does the network in a Keras file expect, as far as the file says it?"""

from collections.abc import Mapping

import numpy as np

from effnet_tf.variants import IMAGENET_MEAN, IMAGENET_STD


def normalization(statistics: Mapping[str, np.ndarray], config: object) -> tuple | None:
    """Returns the (mean, std), in grey levels, that a file's model applies.

    The published files of keras.applications hold the standard deviation where the
    variance belongs; `weights="imagenet"` adds a Rescaling that makes up for it
    (github.com/tensorflow/tensorflow/issues/49930). A file that holds the whole model
    shows that layer; for one of weights only, these very values give it away (also where
    `weights="<path>"`, which does not make up for it, was fine-tuned: there is no telling).

    Args:
        statistics: variables of the Normalization beside stem_conv, by their names.
        config: the model's configuration, if the file has one.

    Returns:
        (mean, std) on pixels in [0, 255], one number or one per channel; () if the model
        leaves pixels as they are; None if the file does not say.
    """
    if "std" in statistics:
        return np.asarray(statistics["mean"]), np.asarray(statistics["std"])
    layers = _layers_with_stem(config)
    if layers:
        return _composed(layers, statistics)
    rescales = _rescales(config)
    if rescales is not None:
        return (np.zeros(1), np.full(1, 255.0)) if rescales else ()
    if "variance" not in statistics:
        return None
    mean, variance = np.ravel(statistics["mean"]), np.ravel(statistics["variance"])
    published = np.allclose(255 * mean, IMAGENET_MEAN, atol=0.01) and np.allclose(
        255 * variance, IMAGENET_STD, atol=0.01
    )
    if published:
        return 255.0 * mean, 255.0 * variance
    return 255.0 * mean, 255.0 * _root(variance)


def _root(variance):
    return np.maximum(np.sqrt(variance), 1e-7)  # as keras.layers.Normalization


def _layers_with_stem(config):
    """Finds the list of layers that holds stem_conv in a model's configuration."""
    if not isinstance(config, dict):
        return None
    layers = config.get("config", {}).get("layers", [])
    if any(layer["config"].get("name") == "stem_conv" for layer in layers):
        return layers
    found = (_layers_with_stem(layer) for layer in layers)
    return next((layers for layers in found if layers is not None), None)


def _rescales(config):
    """Whether a network of keras_cv divides pixels by 255; None if it is none.

    Its configuration names no layers, only whether there is a Rescaling.
    """
    if not isinstance(config, dict):
        return None
    settings = config.get("config")
    if not isinstance(settings, dict):
        return None
    if str(config.get("class_name")).startswith("EfficientNet"):
        return settings.get("include_rescaling")
    found = map(_rescales, settings.values())  # a classifier holds its backbone
    return next((each for each in found if each is not None), None)


def _composed(layers, statistics):
    """The (mean, std) of what the layers before stem_conv do to pixels, () for nothing."""
    scale, offset, found = np.ones(1), np.zeros(1), False
    for layer in layers:
        step = _scaling(layer, statistics)
        if step is not None:
            factor, shift = step
            scale, offset, found = scale * factor, offset * factor + shift, True
        elif layer["config"].get("name") == "stem_conv":
            break
    if not found:
        return ()
    return 0.0 - offset / scale, 1 / scale


def _scaling(layer, statistics):
    """The (factor, shift) that a layer applies to pixels; None if it is another layer."""
    settings, kind = layer["config"], layer["class_name"].rpartition(">")[2]
    if kind == "Rescaling":
        return np.asarray(settings["scale"]), np.asarray(settings["offset"])
    if kind == "Normalization":
        mean = np.ravel(_statistic("mean", settings, statistics, 0.0))
        std = _root(np.ravel(_statistic("variance", settings, statistics, 1.0)))
    elif kind == "Normalize":  # ours
        mean, std = np.asarray(settings["mean"]), np.asarray(settings["std"])
    else:
        return None
    factor = 1 / std
    return factor, -mean * factor


def _statistic(name, settings, statistics, default):
    """A number of a Normalization: from its configuration, else from its variables."""
    if settings.get(name) is not None:
        return settings[name]
    return statistics.get(name, default)
