"""Does a model normalise pixels as the weights that it gets expect?

The network's form of blocks does it in a `Normalize` layer, its flat form (and that of
keras.applications) in Keras' Rescaling and Normalization before the stem: EfficientNetV2 has the
constants as settings of these, all others as weights.
"""

import keras
import numpy as np

from effnet_tf.layers import Normalize, change_settings, follow_weights, has_own_settings
from effnet_tf.layers.pixel_scaling import chained, deviation_of, scaling, standardising


def set_constants(model: keras.Model, constants: tuple | None) -> tuple[str, ...]:
    """Gives the layers of a model that normalise pixels the constants of the weights.

    Args:
        model: of this package, or of keras.applications.
        constants: (mean, std) on pixels in [0, 255]; () if the weights' model left
            normalising to its caller; None if nothing is known.

    Returns:
        Sentences for people about what changed, and what could not be.
    """
    if constants is None:
        return ()
    places = _places(model)
    if not constants:
        return tuple(
            "the file's model left normalising to its caller; this one computes "
            f"{_formula(*place.constants())}"
            for place in places
        )
    mean, std = (np.ravel(values).astype(float) for values in constants)
    if not places:
        return (f"the weights expect {_formula(mean, std)}, which this model leaves to its caller",)
    changed = [place for place in places if _change(place, mean, std)]
    if changed:  # what was traced of a loaded flat model has the old constants inside
        model.train_function = model.test_function = model.predict_function = None
    return tuple(_formula(*place.constants()) for place in changed)


def constants_of(model: keras.Model) -> tuple[list[float], list[float]] | None:
    """Returns the (mean, std) on pixels in [0, 255], one per channel, of the network in a model.

    None if it leaves normalising to its caller.
    """
    for place in _places(model):
        return place.constants()
    return None


def follow_constants(model: keras.Model) -> None:
    """Makes a flat network that was loaded compute with its pixel constants as they are."""
    for place in _places(model):
        if isinstance(place, _Stock):
            follow_weights(place.layer)


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers that hold the pixel constants of the networks in a model."""
    return [place.layer for place in _places(model)]


def network_weights(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights of a model, in its order, but for the constants of pixels and tables.

    They belong to the weights as a whole, and are not counted, averaged or matched one by one.
    """
    constants = {
        id(weight)
        for layer in model._flatten_layers()
        if isinstance(layer, (keras.layers.Normalization, Normalize))
        for weight in layer.weights
    }
    return [weight for weight in model.weights if id(weight) not in constants]


def _change(place, mean, std):
    """Sets the constants of a place, unless it has them; returns whether it did."""
    before = place.constants()
    channels = len(before[0])
    mean, std = _for_channels(mean, channels), _for_channels(std, channels)
    if np.allclose([mean, std], before, rtol=1e-5, atol=1e-4):
        return False
    place.set(mean, std)
    return True


def _for_channels(values, channels):
    """One number per channel: the mean of all where there are others than of RGB."""
    if len(values) not in (1, channels):
        values = values.mean()
    return np.broadcast_to(values, channels)


def _formula(mean, std):
    return f"(x - [{_listed(mean)}]) / [{_listed(std)}]"


def _listed(values):
    return ", ".join(f"{value:.6g}" for value in values)


# --- where a model holds them -------------------------------------------------------------------


def _places(model):
    """Returns the pixel constants of the networks in a model, wherever these are."""
    found = []
    for layer in model._flatten_layers():
        if isinstance(layer, Normalize) and layer.built:
            found.append(_Normalize(layer))
        elif isinstance(layer, keras.layers.Conv2D) and "stem_conv" in layer.name:
            found += _before_stem(layer)
    return found


class _Normalize:
    """The layer of the form of blocks."""

    def __init__(self, layer):
        self.layer = layer

    def constants(self):
        return self.layer.constants()

    def set(self, mean, std):
        self.layer.mean.assign(mean)
        self.layer.std.assign(std)


class _Stock:
    """Keras' Normalization of a flat network, between what else is done to pixels."""

    def __init__(self, before, layer, after):
        self.layer, self._before, self._after = layer, before, after

    def constants(self):
        steps = map(_step, (*self._before, self.layer, *self._after))
        whole = chained(steps)
        channels = self.layer.adapt_mean.shape[0]
        return _digits(whole.centre, channels), _digits(whole.deviation, channels)

    def set(self, mean, std):
        first, last = chained(map(_step, self._before)), chained(map(_step, self._after))
        deviation = std * first.factor * last.factor
        centre = first.factor * mean + first.shift + deviation * last.shift / last.factor
        self.layer.adapt_mean.assign(centre)
        self.layer.adapt_variance.assign(deviation**2)
        follow_weights(self.layer)


class _Settings:
    """The last layer of a flat EfficientNetV2 that normalises, and what is done before."""

    def __init__(self, before, layer, channels):
        self.layer, self._before, self._channels = layer, before, channels

    def constants(self):
        whole = chained(map(_step, (*self._before, self.layer)))
        return _digits(whole.centre, self._channels), _digits(whole.deviation, self._channels)

    def set(self, mean, std):
        first = chained(map(_step, self._before))
        change_settings(self.layer, first.factor * mean + first.shift, first.factor * std)


def _digits(values, channels):
    """One number per channel, with the digits that a float32 has."""
    return [float(f"{value:.7g}") for value in np.broadcast_to(values, channels)]


def _before_stem(stem):
    """Returns the place whose result a flat network's first convolution takes, in a list."""
    chain = _chain(stem)
    if chain and has_own_settings(chain[-1]):
        return [_Settings(chain[:-1], chain[-1], stem.kernel.shape[2])]
    numbers = [number for number, layer in enumerate(chain) if _has_weights(layer)]
    if len(numbers) != 1:
        return []
    (number,) = numbers
    return [_Stock(chain[:number], chain[number], chain[number + 1 :])]


def _chain(layer):
    """Returns the layers that do one thing to every pixel of a channel, before another."""
    found = []
    while layer._inbound_nodes and keras.backend.is_keras_tensor(layer.input):
        layer = layer.input._keras_history.operation
        if isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)):
            found.insert(0, layer)
        elif not isinstance(layer, keras.layers.ZeroPadding2D):
            break
    return found


def _has_weights(layer):
    return isinstance(layer, keras.layers.Normalization) and layer.input_mean is None


def _step(layer):
    """Returns the `Scaling` of a layer of `_chain`."""
    if isinstance(layer, keras.layers.Rescaling):
        return scaling(layer.scale, layer.offset)
    mean, variance = layer.input_mean, layer.input_variance
    if _has_weights(layer):
        mean, variance = layer.adapt_mean, layer.adapt_variance
    return standardising(np.ravel(mean), deviation_of(np.ravel(variance)))
