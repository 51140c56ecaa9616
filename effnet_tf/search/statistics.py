"""How sure is what a few seeds say of networks?

Bootstrap over seeds: the seeds that there are stand for all there could be, and are drawn from
again and again, with replacement, the same ones for all networks that are compared (Efron, 1979).
Draws are those of a fixed generator, so that a table gives the same intervals every time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 10_000
LEVEL = 0.95  # of the intervals


class Interval(NamedTuple):
    """A mean, and the percentile interval around it."""

    mean: float
    low: float
    high: float


def draws(count: int) -> np.ndarray:
    """Returns (DRAWS, count) indices of seeds, drawn with replacement."""
    return np.random.default_rng(0).integers(0, count, (DRAWS, count))


def percentiles(values: np.ndarray) -> tuple[float, float]:
    """Returns the ends of the interval that holds `LEVEL` of some values (N,)."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Returns the mean of one value per seed, and its interval.

    Of differences between two networks, seed by seed, it is the paired one.
    """
    array = np.asarray(values, float)
    return Interval(float(array.mean()), *percentiles(array[draws(len(array))].mean(1)))


def winners(accuracies: np.ndarray) -> np.ndarray:
    """Returns which network is the best in each draw of seeds: (networks, seeds) -> (DRAWS,).

    Of equally good ones it is the first.
    """
    means = accuracies[:, draws(accuracies.shape[1])].mean(-1)
    return means.argmax(0)
