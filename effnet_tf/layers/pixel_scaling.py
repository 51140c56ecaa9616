"""What do layers that scale pixels compute, in numbers?"""

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np
from numpy.typing import ArrayLike


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
        return scaling(self.factor * other.factor, self.shift * other.factor + other.shift)


def scaling(factor: ArrayLike, shift: ArrayLike) -> Scaling:
    """Returns x * factor + shift; numbers or (C,), float64 afterwards."""
    factor, shift = (np.asarray(values, "float64") for values in (factor, shift))
    return Scaling(*np.broadcast_arrays(factor, shift))


def standardising(mean: ArrayLike, std: ArrayLike) -> Scaling:
    """Returns (x - mean) / std; numbers or (C,)."""
    factor = 1 / np.asarray(std, "float64")
    return scaling(factor, -np.asarray(mean, "float64") * factor)


def chained(steps: Iterable[Scaling]) -> Scaling:
    """Returns what several steps do one after the other; x itself for none."""
    whole = scaling(1.0, 0.0)
    for step in steps:
        whole = whole.then(step)
    return whole


def deviation_of(variance: ArrayLike) -> np.ndarray:
    """Returns what keras.layers.Normalization divides by."""
    return np.maximum(np.sqrt(np.asarray(variance, "float64")), keras.config.epsilon())
