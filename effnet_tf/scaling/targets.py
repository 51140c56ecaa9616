"""What must a network not exceed, and by how much does one miss it?"""

import dataclasses
import math
import re

from effnet_tf.errors import InputError
from effnet_tf.variants import Cost

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_SUFFIXES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30}

Figures = dict[str, float]  # what a network costs, by the names of the targets


def parse_amount(text: str) -> float:
    """Returns the number that a text such as "600M", "5.3e6" or "8Gi" means.

    k, M and G are powers of 1,000; Ki, Mi and Gi are powers of 1,024. Any case, no unit.

    Raises:
        InputError: it means none, or one that is not above 0.
    """
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?([kmg]?i?)", text.strip().lower())
    if found is None or found[3] not in _SUFFIXES:
        raise InputError(
            f"'{text}' is not an amount: give a number above 0, with k, M or G for a thousand, a "
            "million or 1e9, or Ki, Mi, Gi for powers of 1,024, such as 600M or 8Gi."
        )
    return float(found[1] + (found[2] or "")) * _SUFFIXES[found[3]]


def shown(number: float) -> str:
    """Returns a number with three or four digits and a suffix: "598.3 M"."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= limit:
            return f"{number / limit:.1f}{suffix}"
    return f"{number:.4g}"


@dataclasses.dataclass(frozen=True)
class Target:
    """One kind of target.

    Attributes:
        name: of the argument of `plan`.
        title: what it is called in a table.
        unit: behind a number of it.
    """

    name: str
    title: str
    unit: str = ""


TARGETS = (
    Target("multiply_adds", "multiply-adds"),
    Target("params", "parameters"),
    Target("train_memory", "training memory", "B"),
    Target("latency_ms", "latency", "ms"),
)


def figures_of(cost: Cost, latency_ms: float = 0.0) -> Figures:
    """Returns what a network costs, by the names of the targets.

    Args:
        cost: of the batch that is planned for.
        latency_ms: predicted milliseconds per image; 0 without a table, and then no target.
    """
    return {
        "multiply_adds": cost.multiply_adds,
        "params": cost.params,
        "train_memory": cost.training_bytes or 0,  # None is of built models only
        "latency_ms": latency_ms,
    }


@dataclasses.dataclass(frozen=True)
class Targets:
    """The most that each cost may be; None: anything.

    Raises:
        InputError: one is not a number above 0, or there is none at all.
    """

    multiply_adds: float | None = None
    params: float | None = None
    train_memory: float | None = None
    latency_ms: float | None = None

    def __post_init__(self):
        if not self.given():
            raise InputError(
                "There is no target to plan for: give at least one of "
                f"{', '.join(target.name for target in TARGETS)}."
            )
        for target in self.given():
            most = getattr(self, target.name)
            if not (math.isfinite(most) and most > 0):
                raise InputError(f"{target.name} is {most}; it must be a number above 0.")

    def given(self) -> tuple[Target, ...]:
        """The targets that limit anything."""
        return tuple(target for target in TARGETS if getattr(self, target.name) is not None)

    def excess(self, figures: Figures) -> float:
        """Returns the largest ratio of a cost to its target; all are met where it is <= 1."""
        return max(figures[target.name] / self.most(target) for target in self.given())

    def most(self, target: Target) -> float:
        """Returns what a cost may be at most."""
        return getattr(self, target.name)

    def slack(self, figures: Figures) -> dict[str, float]:
        """Returns {target: what is left of it}; negative where a network exceeds it."""
        return {target.name: self.most(target) - figures[target.name] for target in self.given()}

    def misses(self, figures: Figures) -> str:
        """Returns "params 7.2 M, which is 1.2 M (20 %) over 6.0 M" for each target missed."""
        found = []
        for target in self.given():
            cost, most = figures[target.name], self.most(target)
            if cost > most:
                numbers = [f"{shown(number)}{target.unit}" for number in (cost, cost - most, most)]
                found.append(
                    f"{target.name} {numbers[0]}, which is {numbers[1]} "
                    f"({100 * (cost / most - 1):,.1f} %) over {numbers[2]}"
                )
        return " and ".join(found)
