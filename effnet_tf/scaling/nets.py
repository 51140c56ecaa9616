"""Which networks can a base be scaled to, in the integers that matter, and what does each cost?

Rounding makes many factors the same network: filters are multiples of 8, repeats are rounded up,
sides are multiples of 32 pixels. A `Net` is what is left; everything that can be counted of a
network is a function of it.
"""

import dataclasses
import math
import operator
from typing import NamedTuple

from effnet_tf.errors import InputError
from effnet_tf.scaling.latency import Table
from effnet_tf.scaling.strategies import Factors
from effnet_tf.scaling.targets import Figures, figures_of
from effnet_tf.variants import (
    Part,
    Variant,
    add_up,
    count_part,
    outer_filters,
    resolve,
    scaled_stages,
)

MULTIPLE = 32  # pixels: five strides of 2 leave no half pixels


class Net(NamedTuple):
    """A network in integers.

    Attributes:
        widths: filters of the stem, the head and the top, and of each stage: declared input,
            output.
        repeats: blocks of each stage.
        side: of the square image, in pixels.
    """

    widths: tuple[int, ...]
    repeats: tuple[int, ...]
    side: int


class Nets:
    """The networks of one base, counted for one batch.

    Args:
        base: the row that is scaled.
        multiple_of: what sides are rounded to, in pixels: to the nearest one, halves up.
        batch: images in a batch.
        dtype: of the maps in training.
        table: measured latencies, or None.
        remat: what training computes again, one of `REMAT`.
    """

    def __init__(
        self,
        base: Variant,
        multiple_of: int,
        batch: int,
        dtype: str,
        table: Table | None = None,
        remat: str = "none",
    ):
        self.base, self.multiple_of, self.batch, self.dtype = base, multiple_of, batch, dtype
        self.table, self.remat = table, remat
        self.least_side = resolve(base).least_side
        self._skeletons: dict[tuple[int, ...], list] = {}
        self._parts: dict[tuple, list[Part]] = {}
        self._milliseconds: dict[tuple, list[float]] = {}

    def row(self, factors: Factors) -> Variant:
        """Returns the base scaled by factors."""
        side = self.base.resolution * factors.resolution
        return dataclasses.replace(
            self.base,
            depth_coefficient=self.base.depth_coefficient * factors.depth,
            width_coefficient=self.base.width_coefficient * factors.width,
            resolution=math.floor(side / self.multiple_of + 0.5) * self.multiple_of,
        )

    def net(self, row: Variant) -> Net:
        """Returns a row in integers.

        Raises:
            InputError: its width leaves a stage without filters, or it is too small.
        """
        if row.resolution < self.least_side:
            raise InputError(f"{row.resolution} pixels are fewer than {self.least_side}.")
        widths, repeats = list(outer_filters(row)), []
        for stage, count in scaled_stages(row):
            widths += [stage.input_filters, stage.filters]
            repeats.append(count)
        return Net(tuple(widths), tuple(repeats), row.resolution)

    def repeats(self, factors: Factors) -> tuple[int, ...]:
        """Returns the blocks of each stage of the base scaled by factors."""
        return tuple(count for _, count in scaled_stages(self.row(factors)))

    def figures(self, row: Variant, net: Net) -> Figures:
        """Returns what a row costs, which `net` is in integers, by the names of the targets."""
        counts = [1]
        for repeats in net.repeats:
            counts += [1, repeats - 1]
        counts.append(1)
        parts = [(part, count) for part, count in zip(self.parts(row, net), counts) if count]
        cost = add_up(parts, 3 * net.side**2, self.batch, self.dtype)
        latency = 0.0
        if self.table is not None:
            latency = sum(map(operator.mul, self._latencies(row, net), counts))
        return figures_of(cost, latency)

    def parts(self, row: Variant, net: Net) -> list[Part]:
        """Returns the parts that a row can consist of, counted.

        They are the stem, then of each stage its first block and one of its others, the head.
        """
        key = net.widths, net.side
        if key not in self._parts:
            found, side = [], net.side
            for convolutions, skip in self._skeleton(row, net):
                found.append(count_part(convolutions, side, skip, self.remat))
                side = found[-1].side
            self._parts[key] = found
        return self._parts[key]

    def _skeleton(self, row, net):
        if net.widths not in self._skeletons:
            self._skeletons[net.widths] = _skeleton(row)
        return self._skeletons[net.widths]

    def _latencies(self, row, net):
        """Returns the milliseconds of each of `parts`."""
        key = net.widths, net.side
        if key not in self._milliseconds:
            found, side = [], net.side
            for (convolutions, skip), part in zip(self._skeleton(row, net), self.parts(row, net)):
                found.append(self.table.milliseconds(convolutions, skip, side))
                side = part.side
            self._milliseconds[key] = found
        return self._milliseconds[key]


def _skeleton(row):
    """Returns (convolutions, whether there is a skip) of the parts that a row can consist of.

    Their numbers do not depend on the depth: it is enough to resolve a row of two blocks each.
    """
    stages = tuple(dataclasses.replace(stage, repeats=2) for stage in row.stages)
    return list(resolve(dataclasses.replace(row, stages=stages, depth_coefficient=1.0)).parts())
