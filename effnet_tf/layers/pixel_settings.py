"""How do layers normalise pixels by constants that are settings, and no weights?

So does keras.applications' EfficientNetV2, whose list of weights begins with the stem. The layers
are Keras' own; that they are a network's, and no user's, is known of those made here alone, and no
saved file knows of it.
"""

from collections.abc import Sequence

import keras
import numpy as np
from numpy.typing import ArrayLike

from effnet_tf.layers.convolutions import precise

_GREY_LEVELS = 255.0


def settings_layers(mean: Sequence[float], std: Sequence[float]) -> list[keras.layers.Layer]:
    """Returns the layers that compute (pixels - mean) / std one after the other, not yet built.

    A `Rescaling` where all channels have the same constants; else one to [0, 1] and a
    `Normalization`, as keras/src/applications/efficientnet_v2.py has them.

    Args:
        mean: one float per channel, in grey levels.
        std: one float per channel, in grey levels.
    """
    if len({*mean}) == len({*std}) == 1:
        layers = [keras.layers.Rescaling(1 / std[0], -mean[0] / std[0], dtype=precise())]
    else:
        layers = [
            keras.layers.Rescaling(1 / _GREY_LEVELS, dtype=precise()),
            keras.layers.Normalization(
                axis=3,
                mean=[value / _GREY_LEVELS for value in mean],
                variance=[(value / _GREY_LEVELS) ** 2 for value in std],
                dtype=precise(),
            ),
        ]
    for layer in layers:
        layer.effnet_tf_made_it = True
    return layers


def has_own_settings(layer: keras.layers.Layer) -> bool:
    """Whether `settings_layers` has made this very layer."""
    return getattr(layer, "effnet_tf_made_it", False)


def change_settings(layer: keras.layers.Layer, mean: ArrayLike, std: ArrayLike) -> None:
    """Makes a layer compute (x - mean) / std from its next tracing on.

    Args:
        layer: the last one of `settings_layers`, built.
        mean: (C,) float, in the units of its input.
        std: (C,) float.
    """
    mean, std = np.asarray(mean, float), np.asarray(std, float)
    if isinstance(layer, keras.layers.Rescaling):
        layer.scale, layer.offset = _plain(1 / std), _plain(-mean / std)
        return
    layer.input_mean, layer.input_variance = mean.tolist(), np.square(std).tolist()
    layer.build(layer._build_input_shape)


def _plain(values):
    """A number where all are the same, which is what files of Keras mostly hold."""
    if np.ptp(values) == 0:
        return float(values[0])
    return values.tolist()
