"""Does a model normalise pixels as the weights that it gets expect?"""

import keras
import numpy as np

from effnet_tf.layers import Normalize, flatten


def set_constants(model: keras.Model, constants: tuple | None) -> tuple[str, ...]:
    """Gives the model's `Normalize` layers the constants of the weights.

    Args:
        model: of this package.
        constants: (mean, std) on pixels in [0, 255]; () if the weights' model left
            normalising to its caller; None if nothing is known.

    Returns:
        Sentences for people about what changed, and what could not be.
    """
    if constants is None:
        return ()
    layers = [layer for layer in flatten(model) if isinstance(layer, Normalize)]
    if not constants:
        return tuple(
            "the file's model left normalising to its caller; this one computes "
            f"{_formula(layer.mean, layer.std)}"
            for layer in layers
        )
    mean, std = (np.ravel(values).astype(float) for values in constants)
    if not layers:
        return (f"the weights expect {_formula(mean, std)}, which this model leaves to its caller",)
    changed = [layer for layer in layers if _change(layer, mean, std)]
    if changed:  # what was traced has the old constants inside
        model.train_function = model.test_function = model.predict_function = None
    return tuple(_formula(layer.mean, layer.std) for layer in changed)


def _change(layer, mean, std):
    """Sets the constants of a layer, unless it has them; returns whether it did."""
    channels = len(layer.mean)
    mean, std = _for_channels(mean, channels), _for_channels(std, channels)
    if np.allclose([mean, std], [layer.mean, layer.std], rtol=1e-5, atol=1e-4):
        return False
    layer.mean, layer.std = mean, std
    return True


def _for_channels(values, channels):
    """One number per channel: the mean of all where there are others than of RGB."""
    if len(values) not in (1, channels):
        values = values.mean()
    return np.broadcast_to(values, channels).tolist()


def _formula(mean, std):
    return f"(x - [{_listed(mean)}]) / [{_listed(std)}]"


def _listed(values):
    return ", ".join(f"{value:.6g}" for value in values)
