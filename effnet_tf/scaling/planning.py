"""Which networks meet a budget?"""

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

from effnet_tf.errors import InputError
from effnet_tf.scaling.free import Grid, parse_axes
from effnet_tf.scaling.latency import Table, read_table
from effnet_tf.scaling.lines import Found, Line
from effnet_tf.scaling.nets import MULTIPLE, Nets
from effnet_tf.scaling.strategies import STRATEGIES, find_strategy
from effnet_tf.scaling.targets import Targets, figures_of, parse_amount, shown
from effnet_tf.variants import (
    Cost,
    Variant,
    check_batch,
    check_remat,
    cost,
    find_variant,
    resolve,
    save_variant,
)

FREE = "free"  # what plans of `free` axes have for a strategy
FREE_PLANS = 3  # of those, the best


@dataclasses.dataclass(frozen=True)
class Plan:
    """A network that meets every target.

    Attributes:
        variant: ready for `model_fn`, `Recipe` and `cost`.
        strategy: the line that it lies on, or "free".
        position: where on that line: phi, or the factor on the one axis that grows; None where
            axes were free.
        cost: exact, for the batch and dtype that were planned for.
        latency_ms: predicted milliseconds per image; None without a table.
        slack: {target: what is left of it}, >= 0.
    """

    variant: Variant
    strategy: str
    position: float | None
    cost: Cost
    latency_ms: float | None
    slack: dict[str, float]

    def save(self, path: str) -> None:
        """Writes the variant to a file that `--variant` and `find_variant` take; see there.

        Raises:
            InputError: the path does not end with .json.
            SaveError: it cannot be written.
        """
        save_variant(self.variant, path)


class OutOfReach(InputError):
    """No network on a line meets the targets; the message says which, by how much, and whose."""


def plan(
    base: str | Variant = "b0",
    *,
    multiply_adds: float | str | None = None,
    params: float | str | None = None,
    train_memory: float | str | None = None,
    batch: int = 32,
    dtype: str = "float32",
    latency_ms: float | None = None,
    table: Table | str | None = None,
    strategy: str | Sequence[str] | None = None,
    free: str | None = None,
    multiple_of: int = MULTIPLE,
    num_classes: int | None = None,
    remat: str = "none",
) -> list[Plan]:
    """Plans networks for a budget, without TensorFlow, in well under a second.

    The best network on a strategy's line is the one with the most multiply-adds that meets every
    target (of equal ones, with fewer parameters): what looking at every thousandth of phi, or of
    the factor on one axis, would find. All costs are counted on whole networks: filters rounded
    to 8, repeats rounded up, sides a multiple of 32 pixels. Amounts may be texts such as "600M",
    "1.5G" or "8Gi": k, M, G are powers of 1,000, Ki, Mi, Gi of 1,024.

    Args:
        base: a name of `VARIANTS`, a `Variant`, or a file of one, to scale.
        multiply_adds: the most for one image.
        params: the most, batch-norm statistics included.
        train_memory: the most bytes for a training step, see `Cost.training_bytes`.
        batch: images in a training step.
        dtype: of the maps in training: "float32", "bfloat16" or "float16".
        latency_ms: the most milliseconds for one image; needs `table`.
        table: latencies that were measured on the device that is planned for, or their file.
        strategy: names of `STRATEGIES`, or "all"; by default "compound", or, with `free`, none.
        free: axes to search in any ratio, of d, w and r: "d,w,r". Adds the best three networks
            of a grid: depth and width in steps of 0.01 times the base's, sides by `multiple_of`,
            each from a quarter to four times the base.
        multiple_of: what sides are rounded to, in pixels; 1 for any side.
        num_classes: of the classifier; by default the base's. B0 has 1.3 million parameters less
            with 10 classes than with 1,000.
        remat: what training computes again instead of keeping it, which counts for
            `train_memory`: "none", "expansion" or "block", see `set_remat`.

    Returns:
        The best first. A strategy on which no network meets the targets is left out, if another
        has one.

    Raises:
        OutOfReach: no network meets the targets.
        InputError: there is no target, no such base, strategy, axis or remat; a latency without
            a table; or nothing limits the network.

    Example:
        >>> plan(multiply_adds="600M")[0].cost.multiply_adds
        584145536
    """
    given = Targets(
        _amount(multiply_adds), _amount(params), _amount(train_memory), _amount(latency_ms)
    )
    planner = Planner(base, given, batch, dtype, table, multiple_of, num_classes, remat)
    found, refusals = [], []
    for name in _strategies(strategy, free):
        try:
            found.append(planner.on_line(name))
        except OutOfReach as refusal:
            refusals.append(refusal)
    if free is not None:
        try:
            found += planner.freely(free)
        except OutOfReach as refusal:
            refusals.append(refusal)
    if not found:
        raise refusals[0]
    return best_first(found)


def best_first(plans: list[Plan]) -> list[Plan]:
    """Returns plans, those with more multiply-adds first; of equal ones, fewer parameters."""
    return sorted(plans, key=lambda each: (-each.cost.multiply_adds, each.cost.params))


def _amount(given):
    if isinstance(given, str):
        return parse_amount(given)
    return given


def _strategies(given, free):
    if given is None:
        return () if free is not None else ("compound",)
    if given == "all":
        return tuple(STRATEGIES)
    if isinstance(given, str):
        return (given,)
    return tuple(given)


class Planner:
    """Plans from one base for one set of targets; arguments as of `plan`."""

    def __init__(
        self,
        base: str | Variant,
        targets: Targets,
        batch: int = 32,
        dtype: str = "float32",
        table: Table | str | None = None,
        multiple_of: int = MULTIPLE,
        num_classes: int | None = None,
        remat: str = "none",
    ):
        self.base, self.targets = find_variant(base), targets
        if num_classes is not None:
            self.base = dataclasses.replace(self.base, num_classes=num_classes)
        self.batch, self.dtype, self.remat, self.table = batch, dtype, remat, _opened(table)
        check_batch(batch, dtype)
        check_remat(remat)
        if targets.latency_ms is not None and self.table is None:
            raise InputError(
                "latency_ms needs a table of what operators take on the device: `python -m "
                "effnet_tf.scaling measure --out FILE.json` makes one there, and docs/scaling.md "
                "says how on a phone."
            )
        if not (isinstance(multiple_of, int) and multiple_of >= 1):
            raise InputError(f"multiple_of is {multiple_of!r}; it must be a whole number, >= 1.")
        self._nets = Nets(self.base, multiple_of, batch, dtype, self.table, remat)

    def on_line(self, strategy: str) -> Plan:
        """Returns the best plan on the line of a strategy.

        Raises:
            OutOfReach: no network there meets the targets.
            InputError: there is no such strategy, or nothing limits the network on its line.
        """
        line = find_strategy(strategy)
        best, nearest = Line(self._nets, line).search(self.targets)
        if best is None:
            what = f"on the line '{strategy}' of {self.base.name}"
            self._refuse(what, f"at {line.axis} {nearest.position:g}", nearest)
        if best.at_the_end and line.is_endless:
            raise InputError(
                f"No target limits the line '{strategy}' of {self.base.name}: give one that grows "
                "with it, such as multiply_adds."
            )
        return self._plan(best, strategy, strategy)

    def freely(self, axes: str) -> list[Plan]:
        """Returns the best plans over free axes, best first; `axes` as of `plan`.

        Raises:
            OutOfReach: no network there meets the targets.
            InputError: there is no such axis.
        """
        grid = Grid(self._nets, parse_axes(axes))
        best, nearest = grid.search(self.targets, FREE_PLANS)
        if not best:
            self._refuse(f"of {self.base.name} with {axes} free", "the smallest", nearest)
        letters = axes.replace(",", "").replace(" ", "")
        return [
            self._plan(found, FREE, f"{letters}-{number}")
            for number, found in enumerate(best, start=1)
        ]

    def _refuse(self, what, where, nearest: Found) -> NoReturn:
        row = nearest.row
        raise OutOfReach(
            f"No network {what} meets the targets: the nearest, {where} (width "
            f"{row.width_coefficient:.3g}, depth {row.depth_coefficient:.3g}, "
            f"{row.resolution} pixels), has {self.targets.misses(nearest.figures)}."
        )

    def _plan(self, found: Found, strategy, ending):
        row = found.row
        budget = self.targets.multiply_adds or found.figures["multiply_adds"]
        name = f"{self.base.name}-{shown(budget).replace(' ', '').replace('.0', '')}-{ending}"
        variant = dataclasses.replace(row, name=name)
        exact = cost(variant, batch_size=self.batch, dtype=self.dtype, remat=self.remat)
        latency = None
        if self.table is not None:
            latency = self.table.of_network(resolve(variant))
        slack = self.targets.slack(figures_of(exact, latency or 0.0))
        return Plan(variant, strategy, found.position, exact, latency, slack)


def _opened(table):
    if isinstance(table, str):
        return read_table(table)
    return table
