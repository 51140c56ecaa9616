"""Which networks cost a certain factor more than a base, whatever the ratio of their axes?

Depth, width and resolution grow by factors of 1 or more (paper, equation 3), those of depth and
width in steps of 0.01, as the planner has them. Many factors round to the same network in integers:
it is one candidate, with the factors that its integers come nearest to.
"""

import dataclasses
import math
import random
from collections.abc import Iterator, Sequence

from effnet_tf.errors import InputError
from effnet_tf.scaling.nets import Net, Nets
from effnet_tf.scaling.strategies import Factors
from effnet_tf.variants import Variant, cost, find_variant
from effnet_tf.variants.compound import MAX_SCALE

STEPS = 100  # of a factor of 1
AXES = ("depth", "width", "resolution")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A network of about the wanted cost.

    Attributes:
        variant: ready to be built; its name says its factors: "b0-d1.2-w1.1-r256".
        depth: factor on the base's depth coefficient, >= 1.
        width: factor on the base's width coefficient, >= 1.
        resolution: factor on the base's side, >= 1.
        axes: those on which it differs from the base in integers, of `AXES`.
        multiply_adds: counted.
        params: counted, batch-norm statistics included.
    """

    variant: Variant
    depth: float
    width: float
    resolution: float
    axes: tuple[str, ...]
    multiply_adds: int
    params: int

    @property
    def name(self) -> str:
        """Of its variant."""
        return self.variant.name

    def coefficients(self, factor: float) -> tuple[float, float, float]:
        """Returns (alpha, beta, gamma): its factors per doubling, where its cost is `factor`."""
        doublings = math.log2(factor)
        return (
            self.depth ** (1 / doublings),
            self.width ** (1 / doublings),
            self.resolution ** (1 / doublings),
        )


def unscaled(base: Variant) -> Candidate:
    """Returns a base itself, as a candidate that differs from it on no axis."""
    exact = cost(base)
    return Candidate(base, 1.0, 1.0, 1.0, (), exact.multiply_adds, exact.params)


def enumerate_candidates(
    base: str | Variant,
    factor: float,
    tolerance: float,
    *,
    multiple_of: int = 1,
    most_pixels: int | None = None,
    num_classes: int | None = None,
) -> list[Candidate]:
    """Returns every network whose counted multiply-adds are about `factor` times the base's.

    Args:
        base: a name of `VARIANTS`, a `Variant`, or a file of one.
        factor: on the base's multiply-adds, > 1.
        tolerance: the largest relative distance from that, in (0, 1).
        multiple_of: what sides are a multiple of, in pixels; the base's own is one anyway.
        most_pixels: no side is larger than that; None: any.
        num_classes: of the classifier; by default the base's.

    Returns:
        Sorted by side, then filters, then repeats; no two of them are the same in integers.

    Raises:
        InputError: an argument is out of range, or there is no such network.
    """
    _check(factor, tolerance, multiple_of)
    row = find_variant(base)
    if num_classes is not None:
        row = dataclasses.replace(row, num_classes=num_classes)
    grid = _Grid(row, multiple_of)
    target = factor * grid.count(Factors(1.0, 1.0, 1.0)).multiply_adds
    limits = target * (1 - tolerance), target * (1 + tolerance)
    sides = list(grid.sides(limits[1], most_pixels))
    found = {}
    for width, filters in grid.widths(limits[1]):
        for depth, repeats in grid.depths(limits[1], width):
            for side in sides:
                candidate = grid.count(Factors(depth, width, side / row.resolution))
                is_near = limits[0] <= candidate.multiply_adds <= limits[1]
                if is_near and candidate.axes:  # of a factor near 1 the base is no answer
                    found[side, filters, repeats] = candidate
    if not found:
        raise InputError(
            f"No network of '{row.name}' costs {factor:g} times as much within "
            f"{100 * tolerance:g} %: use a larger tolerance, or another factor."
        )
    return [found[key] for key in sorted(found)]


def _check(factor, tolerance, multiple_of):
    if not 1 < factor <= MAX_SCALE:
        raise InputError(f"factor is {factor}; it must be above 1, and at most {MAX_SCALE}.")
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance is {tolerance}; it must be between 0 and 1, such as 0.03.")
    if not (isinstance(multiple_of, int) and multiple_of >= 1):
        raise InputError(f"multiple_of is {multiple_of!r}; it must be a whole number, >= 1.")


class _Grid:
    """The networks of a base on the grid of factors."""

    def __init__(self, base: Variant, multiple_of: int):
        self._base, self._multiple_of = base, multiple_of
        self._nets = Nets(base, 1, 1, "float32")
        self._own = self._nets.net(base)

    def count(self, factors: Factors) -> Candidate:
        """Returns the candidate of some factors."""
        row = self._nets.row(factors)
        net = self._nets.net(row)
        figures = self._nets.figures(row, net)
        name = f"{self._base.name}-d{factors.depth:g}-w{factors.width:g}-r{row.resolution}"
        return Candidate(
            dataclasses.replace(row, name=name),
            factors.depth,
            factors.width,
            factors.resolution,
            self._axes(net),
            int(figures["multiply_adds"]),
            int(figures["params"]),
        )

    def _axes(self, net: Net) -> tuple[str, ...]:
        same = (
            net.repeats == self._own.repeats,
            net.widths == self._own.widths,
            net.side == self._own.side,
        )
        return tuple(axis for axis, is_same in zip(AXES, same) if not is_same)

    def sides(self, most: float, most_pixels: int | None) -> Iterator[int]:
        """Yields the sides, from the base's on, at which the base itself is not too costly."""
        first = self._base.resolution
        yield first
        side = first // self._multiple_of * self._multiple_of
        while True:
            side += self._multiple_of
            factors = Factors(1.0, 1.0, side / first)
            if (most_pixels and side > most_pixels) or self.count(factors).multiply_adds > most:
                return
            yield side

    def widths(self, most: float) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Yields (factor, filters) of all that differ in filters and are not too costly."""

        def integers(factor):
            return self._nets.net(self._nets.row(Factors(1.0, factor, 1.0))).widths

        def is_too_costly(factor):
            return self.count(Factors(1.0, factor, 1.0)).multiply_adds > most

        return _distinct(integers, is_too_costly, integers(1.0))

    def depths(self, most: float, width: float) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Yields (factor, repeats), the same for depths at a width."""

        def integers(factor):
            return self._nets.repeats(Factors(factor, width, 1.0))

        def is_too_costly(factor):
            return self.count(Factors(factor, width, 1.0)).multiply_adds > most

        return _distinct(integers, is_too_costly, integers(1.0))


def _distinct(integers, is_too_costly, own):
    """Yields (factor, integers) once for each run of factors of the same integers."""
    run: list[float] = []
    for index in range(STEPS, STEPS * MAX_SCALE + 1):
        factor = index / STEPS
        if run and integers(factor) != integers(run[0]):
            yield _nearest(run, integers(run[0]), own), integers(run[0])
            run = []
        if not run and is_too_costly(factor):
            return
        run.append(factor)


def _nearest(run: Sequence[float], integers: Sequence[int], own: Sequence[int]) -> float:
    """Returns the factor of a run whose multiples of `own` are nearest to the integers."""
    wanted = sum(a * b for a, b in zip(integers, own)) / sum(each**2 for each in own)
    return min(run, key=lambda factor: abs(factor - wanted))


def sample(candidates: Sequence[Candidate], most: int, seed: int = 0) -> list[Candidate]:
    """Returns at most so many candidates: those of a single axis, and others drawn at random.

    Args:
        candidates: all there are.
        most: how many, >= 1.
        seed: of the draw.
    """
    if len(candidates) <= most:
        return list(candidates)
    single = [each for each in candidates if len(each.axes) == 1]
    others = [each for each in candidates if len(each.axes) != 1]
    drawn = random.Random(seed).sample(single, min(len(single), most))
    drawn += random.Random(seed).sample(others, most - len(drawn))
    names = {each.name for each in drawn}
    return [each for each in candidates if each.name in names]
