"""What does a model do to pixels before its first convolution?"""

import dataclasses

import keras
import numpy as np

from effnet_tf import layers


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The function x * factor + shift, for each channel.

    Attributes:
        factor: a number or (C,), none of them 0.
        shift: of the same shape.
    """

    factor: np.ndarray
    shift: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """What x is when the function is 0: its mean."""
        return 0.0 - self.shift / self.factor

    @property
    def deviation(self) -> np.ndarray:
        """What divides x after its mean has been subtracted."""
        return 1 / self.factor

    def then(self, other: "Scaling") -> "Scaling":
        """Returns the function that does this one first and then `other`."""
        return Scaling(self.factor * other.factor, self.shift * other.factor + other.shift)


def scaling_of(layer: keras.Operation, rank: int) -> Scaling | None:
    """Returns what a layer computes on tensors of some rank, as far as it is a `Scaling`.

    Args:
        layer: built. A `Normalization` is asked for its weights: Keras computes with a copy
            of them, which whoever assigns to them can leave behind.
        rank: of its input, the batch counted.

    Returns:
        None for a layer that does something else.
    """
    if isinstance(layer, layers.Normalize):
        return _of_statistics(layer.mean, layer.std)
    if type(layer) is keras.layers.Rescaling:
        factor, shift = (np.asarray(value, "float64") for value in (layer.scale, layer.offset))
        return _checked(factor, shift)
    if type(layer) is keras.layers.Normalization and not layer.invert:
        if layer.axis in ((), (-1,), (rank - 1,)):
            return _of_statistics(*statistics_of(layer))
    return None


def statistics_of(layer: keras.layers.Normalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns (mean, standard deviation) of a built `Normalization`, numbers or (C,)."""
    mean, variance = layer.input_mean, layer.input_variance
    if mean is None:
        mean, variance = layer.adapt_mean, layer.adapt_variance
    mean, variance = (np.asarray(value, "float64") for value in (mean, variance))
    return mean, np.maximum(np.sqrt(variance), keras.config.epsilon())


def _of_statistics(mean, std):
    mean, std = (np.asarray(value, "float64") for value in (mean, std))
    return _checked(1 / std, -mean / std)


def _checked(factor, shift):
    """Returns a `Scaling`; None where it would have no way back, or is of no single shape."""
    if not np.isfinite(factor).all() or (factor == 0).any() or max(factor.ndim, shift.ndim) > 1:
        return None
    return Scaling(*np.broadcast_arrays(factor, shift))
