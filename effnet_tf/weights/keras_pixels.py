"""Which pixels does the network in a Keras file expect, as far as the file says it?"""

from collections.abc import Mapping

import numpy as np

from effnet_tf.layers.pixel_scaling import chained, deviation_of, scaling, standardising
from effnet_tf.variants import IMAGENET_MEAN, IMAGENET_STD

_SCALING = ("Rescaling", "Normalization", "Normalize")  # the last is ours


def normalization(
    layers: Mapping[str, Mapping[str, np.ndarray]], config: object, stem: str
) -> tuple | None:
    """Returns the (mean, std), in grey levels, that a file's model applies.

    The published files of keras.applications hold the standard deviation where the
    variance belongs; `weights="imagenet"` adds a Rescaling that makes up for it
    (github.com/tensorflow/tensorflow/issues/49930). A file that holds the whole model
    shows that layer; for one of weights only, these very values give it away (also where
    `weights="<path>"`, which does not make up for it, was fine-tuned: there is no telling).

    Args:
        layers: name of a Normalization (or Normalize) beside stem_conv -> its variables, by
            their names.
        config: the model's configuration, if the file has one.
        stem: name of the layer of the first convolution.

    Returns:
        (mean, std) on pixels in [0, 255], one number or one per channel; () if the model
        leaves pixels as they are; None if the file does not say.
    """
    before = _before_stem(config, stem)
    if before is not None:
        return _composed(before, layers)
    if len(layers) == 1:
        (statistics,) = layers.values()
        if "std" in statistics:
            return np.asarray(statistics["mean"]), np.asarray(statistics["std"])
    rescales = _rescales(config)
    if rescales is not None:
        return (np.zeros(1), np.full(1, 255.0)) if rescales else ()
    if len(layers) != 1 or "variance" not in statistics:
        return None  # of several, one is the network's: there is no telling which
    return _of_weights(np.ravel(statistics["mean"]), np.ravel(statistics["variance"]))


def _of_weights(mean, variance):
    """What a Normalization says that stands behind a Rescaling by 1 / 255, as they all do."""
    published = np.allclose(255 * mean, IMAGENET_MEAN, atol=0.01) and np.allclose(
        255 * variance, IMAGENET_STD, atol=0.01
    )
    if published:
        return 255.0 * mean, 255.0 * variance
    return 255.0 * mean, 255.0 * deviation_of(variance)


def _composed(before, layers):
    """The (mean, std) of what layers do one after the other; () if there are none."""
    if not before:
        return ()
    if len(before) == 1 and _kind(before[0]) == "Normalize":  # without rounding
        numbers = _numbers(before[0], layers)
        return np.asarray(numbers["mean"]), np.asarray(numbers["std"])
    whole = chained(_step(layer, layers) for layer in before)
    return whole.centre, whole.deviation


# --- in a model's configuration ----------------------------------------------------------------


def scaling_layers(config: object, stem: str) -> set[str] | None:
    """Returns the names of the network's layers that scale pixels.

    Args:
        config: the model's configuration, if the file has one.
        stem: name of the layer of the first convolution.

    Returns:
        A set; None if the configuration does not say it.
    """
    before = _before_stem(config, stem)
    if before is None:
        return None
    return {layer["config"].get("name") for layer in before}


def _before_stem(config, stem):
    """Returns the configurations of the network's layers that scale pixels, in order.

    None if there is no first convolution.
    """
    layers = _layers_with_stem(config, stem)
    if layers is None:
        return None
    found = [layer for layer in _way_to_stem(layers, stem) if _kind(layer) in _SCALING]
    own = [number for number, layer in enumerate(found) if _has_weights(layer)]
    if not own:
        return found
    # What stands before the network's own layers is the user's.
    start = own[-1]
    if start and _kind(found[start]) != "Normalize" and _kind(found[start - 1]) == "Rescaling":
        start -= 1
    return found[start:]


def _way_to_stem(layers, stem):
    """Returns the layers before the first convolution, in order.

    It goes back to one of several inputs, or of none.
    """
    by_name = {layer["config"].get("name"): layer for layer in layers}
    names = list(by_name)
    previous = dict(zip(names[1:], names))  # in a Sequential
    found, name = {}, stem
    while name in by_name and name not in found:
        layer = found[name] = by_name[name]
        sources = {previous.get(name)}
        if "inbound_nodes" in layer:
            sources = set(_sources(layer["inbound_nodes"]))
        name = None
        if len(sources) == 1:
            (name,) = sources
    return list(found.values())[:0:-1]


def _sources(node):
    """Yields the names of the layers that a node of Keras 2 or 3 takes tensors of."""
    if isinstance(node, dict) and "keras_history" in node:
        node = node["keras_history"]
    if isinstance(node, dict):
        node = list(node.values())
    if not isinstance(node, list):
        return
    if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
        yield node[0]
        return
    for each in node:
        yield from _sources(each)


def _layers_with_stem(config, stem):
    """Finds the list of layers that holds the first convolution in a model's configuration."""
    if not isinstance(config, dict):
        return None
    layers = config.get("config", {}).get("layers", [])
    if any(layer["config"].get("name") == stem for layer in layers):
        return layers
    found = (_layers_with_stem(layer, stem) for layer in layers)
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


def _kind(layer):
    return layer["class_name"].rpartition(">")[2]


def _has_weights(layer):
    """Whether it is a Normalization whose constants are weights, or a Normalize."""
    return _kind(layer) != "Rescaling" and layer["config"].get("variance") is None


def _numbers(layer, layers):
    """Returns a layer's settings, and its weights, with which it computes, if there are any."""
    settings = layer["config"]
    return {**settings, **layers.get(settings.get("name"), {})}


def _step(layer, layers):
    """What a layer does to pixels."""
    settings, kind = layer["config"], _kind(layer)
    if kind == "Rescaling":
        return scaling(settings["scale"], settings["offset"])
    numbers = _numbers(layer, layers)
    if kind == "Normalize":
        return standardising(numbers["mean"], numbers["std"])
    mean, variance = (numbers.get(name) for name in ("mean", "variance"))
    if variance is None:
        mean, variance = 0.0, 1.0
    return standardising(np.ravel(mean), deviation_of(np.ravel(variance)))
