"""How far may a number measured on a sample be from that of everything? 95 % intervals."""

import dataclasses

import numpy as np

_Z = 1.959964  # of the normal distribution, for 95 %


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, with its 95 % interval.

    Attributes:
        value: the number.
        low: of the interval.
        high: of the interval.
    """

    value: float
    low: float
    high: float


def share(right: int, count: int) -> Estimate:
    """Returns a share with Wilson's interval (Wilson 1927), which holds for few images, too."""
    if not count:
        return Estimate(np.nan, np.nan, np.nan)
    low, high = _wilson(right / count, count)
    if right == 0:
        low = 0.0  # and not what rounding leaves of it
    if right == count:
        high = 1.0
    return Estimate(right / count, low, high)


def _wilson(value, count):
    square = _Z**2 / count
    middle = (value + square / 2) / (1 + square)
    half = _Z / (1 + square) * np.sqrt(value * (1 - value) / count + square / (4 * count))
    return float(middle - half), float(middle + half)


def mean(values: np.ndarray) -> Estimate:
    """Returns a mean with the interval of the normal distribution."""
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    half = 0.0
    if len(values) > 1:
        half = _Z * float(values.std(ddof=1)) / np.sqrt(len(values))
    value = float(values.mean())
    return Estimate(value, value - half, value + half)
