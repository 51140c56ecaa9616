"""In which directions does a network grow? Each strategy is a line through its base.

A position on a line gives three factors on the base: of depth, width and resolution. Positions
are whole thousandths of the line's axis, so that two people who look for the best network on a
line look at the same ones.
"""

import bisect
import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

from effnet_tf.errors import InputError, nearest
from effnet_tf.variants import CompoundScaling

STEP = 1000  # positions per unit of an axis


class Factors(NamedTuple):
    """What the base's coefficients and its side are multiplied by."""

    depth: float
    width: float
    resolution: float


@dataclasses.dataclass(frozen=True)
class Strategy:
    """One line.

    Attributes:
        name: how it is called.
        axis: what a position means: "phi" or "factor".
        about: what grows, in a few words, with the source.
        factors: takes a position on the axis.
        lowest: the first position that is looked at, on the axis.
        highest: the last one. The limits that are no TinyNets' only have to be far enough:
            rounding to no filters at all, or `MAX_SCALE`, comes first.
        is_endless: whether the line itself has no end.
    """

    name: str
    axis: str
    about: str
    factors: Callable[[float], Factors]
    lowest: float
    highest: float
    is_endless: bool = True


_PAPER = CompoundScaling()


def _compound(phi):
    return Factors(_PAPER.alpha**phi, _PAPER.beta**phi, _PAPER.gamma**phi)


def _width(factor):
    return Factors(1.0, factor, 1.0)


def _depth(factor):
    return Factors(factor, 1.0, 1.0)


def _resolution(factor):
    return Factors(1.0, 1.0, factor)


# Dollar, Singh, Girshick, "Fast and accurate model scaling", CVPR 2021, arXiv 2103.06877,
# section 5: with s = 2**phi times the multiply-adds, width**2 grows as s**a, and depth and
# resolution**2 as s**((1 - a) / 2) each; a = 0.8 is what they use. Maps grow as s**0.6 only.
_FAST = 0.8


def _fast(phi):
    other = (1 - _FAST) / 2
    return Factors(2 ** (phi * other), 2 ** (phi * _FAST / 2), 2 ** (phi * other / 2))


class _Tiny(NamedTuple):
    multiply_adds: float  # as published, in millions
    depth: float
    width: float
    side: int


# Han et al., "Model Rubik's cube", NeurIPS 2020, arXiv 2010.14819: TinyNet-E to TinyNet-A, whose
# baseline is B0 at 224 pixels; the figures are those of its table and of its released code. The
# formula behind them is a regression over networks that were never published, so we go straight
# from one to the next, in logarithms, over phi = log2 of the share of B0's multiply-adds.
# Deviation: they round repeats to the nearest, and fix those of the first and last stage; here
# they are rounded up, like everywhere.
_TINYNETS = (
    _Tiny(24, 0.6, 0.51, 106),
    _Tiny(52, 0.695, 0.54, 152),
    _Tiny(100, 0.85, 0.54, 184),
    _Tiny(202, 1.1, 0.75, 188),
    _Tiny(339, 1.2, 1.0, 192),
)
_TINY_BASE = 386, 224  # B0: millions of multiply-adds by our own count, pixels
_TINY_PHIS = [math.log2(row.multiply_adds / _TINY_BASE[0]) for row in _TINYNETS]
_TINY_ENDS = round(_TINY_PHIS[0], 3), round(_TINY_PHIS[-1], 3)


def _tiny(phi):
    after = min(max(bisect.bisect_left(_TINY_PHIS, phi), 1), len(_TINYNETS) - 1)
    start, end = _TINY_PHIS[after - 1], _TINY_PHIS[after]
    share = (phi - start) / (end - start)
    low, high = _TINYNETS[after - 1], _TINYNETS[after]

    def between(name):
        return getattr(low, name) ** (1 - share) * getattr(high, name) ** share

    return Factors(between("depth"), between("width"), between("side") / _TINY_BASE[1])


STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        Strategy("compound", "phi", "all three (EfficientNet, equation 3)", _compound, -30, 30),
        Strategy("width", "factor", "channels only", _width, 0.001, 100),
        Strategy("depth", "factor", "blocks only", _depth, 0.001, 100),
        Strategy("resolution", "factor", "pixels only", _resolution, 0.001, 100),
        Strategy("fast", "phi", "mostly channels (Dollar et al., 2021)", _fast, -30, 30),
        Strategy("tiny", "phi", "TinyNet's ratios (Han et al., 2020)", _tiny, *_TINY_ENDS, False),
    )
}


def find_strategy(name: str) -> Strategy:
    """Returns the strategy of a name.

    Raises:
        InputError: there is none; the message lists the nearest names.
    """
    if name not in STRATEGIES:
        raise InputError(f"There is no strategy '{name}'. {nearest(name, STRATEGIES)}")
    return STRATEGIES[name]
