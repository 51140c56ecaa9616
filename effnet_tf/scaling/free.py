"""Which are the best networks, whatever the ratio of their depth, width and resolution?

Looks at all nets of a grid over the axes that are free: factors on the base's depth and width in
steps of 0.01, and all sides that are a multiple, each from a quarter to four times the base. Best
is what it is on a line: the most multiply-adds. Costs are sums over blocks, so the deepest net of
a width and a side that fits is found by halving.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from effnet_tf.errors import InputError
from effnet_tf.scaling.lines import MARGIN, Found, last_where
from effnet_tf.scaling.nets import Net, Nets
from effnet_tf.scaling.strategies import Factors
from effnet_tf.scaling.targets import Targets
from effnet_tf.variants import Variant, check_resolution

AXES = {"d": "depth", "w": "width", "r": "resolution"}
RANGE = 4  # times the base, or its part
STEPS = 100  # of a factor of 1


def parse_axes(text: str) -> tuple[str, ...]:
    """Returns ("depth", "width") for "d,w".

    Raises:
        InputError: an axis that there is not, one that is named twice, or none.
    """
    letters = [letter.strip() for letter in text.split(",")]
    wrong = [letter for letter in letters if letter not in AXES]
    if wrong or len(set(letters)) < len(letters):
        raise InputError(
            f"free is '{text}'; it must be some of d (depth), w (width) and r (resolution), each "
            "once, with commas between them: d,w,r."
        )
    return tuple(AXES[letter] for letter in letters)


class _Depth(NamedTuple):
    factor: float
    repeats: tuple[int, ...]


class Grid:
    """The nets over the free axes of a base.

    Args:
        nets: the networks of the base.
        axes: those that are free, of `AXES`' values; the others are the base's own.
    """

    def __init__(self, nets: Nets, axes: tuple[str, ...]):
        self._nets, self._axes = nets, axes
        self._depths = list(self._distinct_depths())
        self._sides = self._all_sides()

    def search(self, targets: Targets, count: int) -> tuple[list[Found], Found]:
        """Returns the `count` best networks, best first, and the one nearest to the targets."""
        best: list[tuple] = []  # a heap: the worst of them first
        nearest = None
        for factor, row, net in self._widths():
            if nearest is None:
                nearest = self._found(factor, self._depths[0], self._sides[0])
                if targets.excess(nearest.figures) > MARGIN:
                    return [], nearest  # all others are larger
            least = 0
            if len(best) == count:
                least = best[0][0]
            for found in self._of_width(row, net, targets, least, count):
                heapq.heappush(best, (*found, factor))
                if len(best) > count:
                    heapq.heappop(best)
        if nearest is None:
            raise InputError(f"'{self._nets.base.name}' has no filters left at any width.")
        chosen = [
            self._found(factor, self._depths[depth], side)
            for _, _, depth, side, factor in sorted(best, reverse=True)
        ]
        return chosen, nearest

    def _found(self, width, depth, side):
        base = self._nets.base.resolution
        row = self._nets.row(Factors(depth.factor, width, side / base))
        return Found(row, None, self._nets.figures(row, self._nets.net(row)))

    # --- the axes -------------------------------------------------------------------------------

    def _factors(self, axis):
        if axis not in self._axes:
            return [1.0]
        return [index / STEPS for index in range(STEPS // RANGE, STEPS * RANGE + 1)]

    def _widths(self) -> Iterator[tuple[float, Variant, Net]]:
        """Yields (factor, row, net) of every width that leaves filters, the last factor of each."""
        before = None
        for factor in self._factors("width"):
            row = self._nets.row(Factors(1.0, factor, 1.0))
            try:
                net = self._nets.net(row)
            except InputError:
                continue
            if before and before[2].widths != net.widths:
                yield before
            before = factor, row, net
        if before:
            yield before

    def _distinct_depths(self):
        """Yields the depths that differ in repeats, the last factor of each."""
        before = None
        for factor in self._factors("depth"):
            depth = _Depth(factor, self._nets.repeats(Factors(factor, 1.0, 1.0)))
            if before and before.repeats != depth.repeats:
                yield before
            before = depth
        yield before

    def _all_sides(self):
        base, multiple = self._nets.base.resolution, self._nets.multiple_of
        if "resolution" not in self._axes:
            sides = [self._nets.row(Factors(1.0, 1.0, 1.0)).resolution]
        else:
            first = -(-base // (RANGE * multiple)) * multiple
            every = range(first, RANGE * base + 1, multiple)
            sides = [side for side in every if side >= self._nets.least_side]
        check_resolution(max(sides, default=0), self._nets.base.name, self._nets.least_side)
        return sides

    # --- the nets of one width --------------------------------------------------------------------

    def _of_width(self, row, net, targets, least, count):
        """Yields (multiply-adds, -params, depth, side) of the `count` deepest nets of each side.

        Those of less than `least` multiply-adds may be left out.
        """
        columns = {}

        def column(number):
            if number not in columns:
                columns[number] = _Column(self._nets.parts(row, net._replace(side=sides[number])))
            return columns[number]

        sides, shallowest = self._sides, self._depths[0].repeats

        def is_feasible(number):
            return number < 0 or column(number).fits(shallowest, targets)

        number = last_where(-1, len(sides) - 1, is_feasible)
        while number >= 0:
            if column(number).multiply_adds(self._depths[-1].repeats) < least:
                break
            deepest = self._deepest(row, net, column(number), sides[number], targets, least)
            for depth in range(deepest, max(deepest - count, -1), -1):
                repeats = self._depths[depth].repeats
                costs = column(number).multiply_adds(repeats), -column(number).params(repeats)
                yield (*costs, depth, sides[number])
            number -= 1

    def _deepest(self, row, net, column, side, targets, least):
        """Returns the number of the greatest depth that fits; -1 if none does, or is too small."""
        depths = self._depths
        index = last_where(
            0, len(depths) - 1, lambda number: column.fits(depths[number].repeats, targets)
        )
        if column.multiply_adds(depths[index].repeats) < least:
            return -1

        def meets(number):
            whole = Net(net.widths, depths[max(number, 0)].repeats, side)
            return number < 0 or targets.excess(self._nets.figures(row, whole)) <= 1

        return last_where(-1, index, meets)


class _Column:
    """The multiply-adds and parameters of all depths at one width and side."""

    def __init__(self, parts):
        others = parts[2:-1:2]
        self._multiply_adds = [part.multiply_adds for part in others]
        self._params = [part.params for part in others]
        # Of all parts but the other blocks, of which there is one less than repeats.
        single = [parts[0], *parts[1:-1:2], parts[-1]]
        self._first = [
            sum(part.multiply_adds for part in single) - sum(self._multiply_adds),
            sum(part.params for part in single) - sum(self._params),
        ]

    def multiply_adds(self, repeats):
        return self._first[0] + sum(map(int.__mul__, self._multiply_adds, repeats))

    def params(self, repeats):
        return self._first[1] + sum(map(int.__mul__, self._params, repeats))

    def fits(self, repeats, targets):
        """Whether multiply-adds and parameters meet their targets, if there are any."""
        if targets.multiply_adds and self.multiply_adds(repeats) > targets.multiply_adds:
            return False
        return not targets.params or self.params(repeats) <= targets.params
