"""Which candidates get how many seeds, so that most trainings go to those that may be best?

Successive halving (Jamieson and Talwalkar, arXiv 1502.07943) over seeds: a training is never longer
or shorter, which would favour networks that learn quickly, but who is in the worse half after one
seed gets no second, after two no third, and so on. All that remain have the same seeds.
"""

import dataclasses
from collections.abc import Sequence

from effnet_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rung:
    """One round.

    Attributes:
        number: from 0.
        keep: candidates that are in it, the best of the rung before.
        seeds: that each of them is trained with in it.
    """

    number: int
    keep: int
    seeds: tuple[int, ...]


def schedule(candidates: int, seeds: int, halving: bool = True) -> list[Rung]:
    """Returns the rungs: 1 seed, 2, 4, ... up to `seeds` in all, for all, half, a quarter, ...

    At least two candidates are left for the last rung, if there are two.

    Args:
        candidates: how many there are, >= 1.
        seeds: of each candidate in the last rung, >= 1.
        halving: whether there is any; else all get all seeds.

    Raises:
        InputError: there is no candidate, or no seed.

    Example:
        >>> [(rung.keep, rung.seeds) for rung in schedule(10, 5)]
        [(10, (0,)), (5, (1,)), (3, (2, 3)), (2, (4,))]
    """
    if candidates < 1 or seeds < 1:
        raise InputError(f"There are {candidates} candidates and {seeds} seeds; both must be >= 1.")
    if not halving:
        return [Rung(0, candidates, tuple(range(seeds)))]
    rungs: list[Rung] = []
    keep, done, wanted = candidates, 0, 1
    while done < seeds:
        wanted = min(wanted, seeds)
        rungs.append(Rung(len(rungs), keep, tuple(range(done, wanted))))
        done, wanted = wanted, 2 * wanted
        keep = max(-(-keep // 2), min(2, candidates))
    return rungs


def trainings(rungs: Sequence[Rung]) -> int:
    """Returns how many trainings a schedule takes."""
    return sum(rung.keep * len(rung.seeds) for rung in rungs)
