"""How good is a network that costs something?

MnasNet's reward (arXiv 1807.11626, section 3.1, equations 2 and 3) is accuracy * (cost / target)**w
with w = alpha up to the target and beta above it. Its two versions are rows here. Or nothing
weighs one against the other, and what is searched for is a Pareto front.
"""

import dataclasses
import math
from collections.abc import Sequence

from effnet_tf.errors import InputError

# name -> (alpha, beta), of section 3.1. "soft": half the cost is worth 5 % of the accuracy, which
# is what twice the latency usually brought there. "hard": up to the target accuracy alone counts,
# beyond it the accuracy is divided by the excess.
EXPONENTS = {"soft": (-0.07, -0.07), "hard": (0.0, -1.0)}
PARETO = "pareto"
LATENCY = "latency_ms"
# What a network may cost, of one image, and how that is called on an axis.
COSTS = {
    "multiply_adds": "multiply-adds",
    "params": "parameters",
    "activation_bytes": "bytes of activations",
    LATENCY: "latency (ms)",
}
OBJECTIVES = (*EXPONENTS, PARETO)


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a search makes as large as it can, or as small.

    Attributes:
        kind: one of `OBJECTIVES`.
        target: what a network should cost, > 0, in the unit of the costs; None: only for "pareto".

    Raises:
        InputError: unknown kind, or a target that is missing or not above 0.
    """

    kind: str
    target: float | None = None

    def __post_init__(self):
        if self.kind not in OBJECTIVES:
            raise InputError(
                f"The objective is '{self.kind}'; it must be one of {', '.join(OBJECTIVES)}."
            )
        if self.kind == PARETO:
            return
        if self.target is None or not 0 < self.target < math.inf:
            raise InputError(
                f"The objective '{self.kind}' needs a target above 0, and it is {self.target}."
            )

    @property
    def directions(self) -> tuple[str, ...]:
        """Of each of `values`, "maximize" or "minimize"."""
        if self.kind == PARETO:
            return "maximize", "minimize"
        return ("maximize",)

    def values(self, accuracy: float, cost: float) -> tuple[float, ...]:
        """Returns (reward,), or for a Pareto front (accuracy, cost).

        Args:
            accuracy: in [0, 1].
            cost: > 0.
        """
        if self.kind == PARETO:
            return accuracy, cost
        return (reward(accuracy, cost, self.target or cost, *EXPONENTS[self.kind]),)


def reward(accuracy: float, cost: float, target: float, alpha: float, beta: float) -> float:
    """Returns accuracy * (cost / target)**w.

    Args:
        accuracy: in [0, 1].
        cost: > 0, in any unit.
        target: > 0, in the same.
        alpha: w where the cost is at most the target, <= 0.
        beta: w where it is above, <= 0.

    Example:
        >>> round(reward(0.8, 200, 100, *EXPONENTS["soft"]), 4), reward(0.8, 200, 100, 0.0, -1.0)
        (0.7621, 0.4)
    """
    exponent = alpha
    if cost > target:
        exponent = beta
    return accuracy * (cost / target) ** exponent


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the numbers of the points on the Pareto front, the cheapest first.

    A point is on it if none costs less and is as accurate, or is more accurate for the same. Of
    equal points the first is.

    Args:
        points: (accuracy, cost) of each.

    Example:
        >>> front([(0.9, 5.0), (0.8, 6.0), (0.7, 1.0)])
        [2, 0]
    """
    found: list[int] = []
    for number in sorted(range(len(points)), key=lambda n: (points[n][1], -points[n][0])):
        if not found or points[number][0] > points[found[-1]][0]:
            found.append(number)
    return found
