"""Which is the best network on a line, and which is the nearest where none meets the targets?

Best is the network with the most multiply-adds that meets every target; of equal ones, that with
fewer parameters. The answer is that of looking at every position of the line, a thousandth of its
axis apart; but nets are counted once, and only near the place where the targets end.
"""

import dataclasses
from collections.abc import Callable

from effnet_tf.errors import InputError
from effnet_tf.scaling.nets import Net, Nets
from effnet_tf.scaling.strategies import STEP, Strategy
from effnet_tf.scaling.targets import Figures, Targets
from effnet_tf.variants import Variant
from effnet_tf.variants.compound import MAX_SCALE

# Costs grow along a line, but for one case: a convolution that widens a block's input is left out
# where both are equally wide, and filters round to that at some widths. So nets within a quarter
# of the place where the targets end are all looked at.
MARGIN = 1.25


@dataclasses.dataclass(frozen=True)
class Found:
    """A network on a line.

    Attributes:
        row: its variant, still named like the base.
        position: on the line's axis; None: on no line.
        figures: what it costs, by the names of the targets.
        at_the_end: whether larger networks were not looked at.
    """

    row: Variant
    position: float | None
    figures: Figures
    at_the_end: bool = False


class Line:
    """The networks on one line.

    Args:
        nets: the networks of the base.
        strategy: the line's direction.
    """

    def __init__(self, nets: Nets, strategy: Strategy):
        self.nets, self.strategy = nets, strategy
        first, last = round(strategy.lowest * STEP), round(strategy.highest * STEP)
        base = nets.base
        self._last = last_where(first, last, self._is_small_enough)
        self._first = self._last - last_where(0, self._last - first, self._is_there_below)
        if not self._is_there(self._last):
            raise InputError(f"No network lies on the line '{strategy.name}' of '{base.name}'.")

    def row(self, index: int) -> Variant:
        """Returns the variant at an index, a position in thousandths."""
        return self.nets.row(self.strategy.factors(index / STEP))

    def _is_small_enough(self, index):
        row = self.row(index)
        return max(row.depth_coefficient, row.width_coefficient) <= MAX_SCALE

    def _is_there(self, index):
        try:
            self._net(index)
        except InputError:
            return False
        return True

    def _is_there_below(self, distance):
        return self._is_there(self._last - distance)

    def _net(self, index) -> Net:
        return self.nets.net(self.row(index))

    def _found(self, index):
        row = self.row(index)
        figures = self.nets.figures(row, self.nets.net(row))
        return Found(row, index / STEP, figures, index == self._last)

    def search(self, targets: Targets) -> tuple[Found | None, Found]:
        """Returns the best network on the line, or None, and the one nearest to the targets."""

        def is_near(index):
            return targets.excess(self._found(index).figures) <= MARGIN

        smallest = self._net(self._first)
        nearest = self._found(
            last_where(self._first, self._last, lambda index: self._net(index) == smallest)
        )
        if not is_near(self._first):
            return None, nearest
        best = None
        index = last_where(self._first, self._last, is_near)
        while index >= self._first:
            found = self._found(index)
            if targets.excess(found.figures) <= 1 and (best is None or is_better(found, best)):
                best = found
            nearest = min(nearest, found, key=lambda each: targets.excess(each.figures))
            if best and found.figures["multiply_adds"] * MARGIN < best.figures["multiply_adds"]:
                break
            index = self._before(index)
        return best, nearest

    def _before(self, index):
        """Returns the last index before this one where another net is, -1 below the first."""
        net, step = self._net(index), 1
        while index - step >= self._first and self._net(index - step) == net:
            step *= 2
        lowest = max(index - step, self._first - 1)

        def is_another(other):
            return other < self._first or self._net(other) != net

        return last_where(lowest, index - step // 2, is_another)


def is_better(found: Found, other: Found) -> bool:
    """Whether a network is the better one of two that meet every target."""
    return _rank(found) > _rank(other)


def _rank(found):
    return found.figures["multiply_adds"], -found.figures["params"]


def last_where(low: int, high: int, is_true: Callable[[int], bool]) -> int:
    """Returns the last whole number in [low, high] of which something is true, as it is of low."""
    while low < high:
        middle = (low + high + 1) // 2
        if is_true(middle):
            low = middle
        else:
            high = middle - 1
    return low
