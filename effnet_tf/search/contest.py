"""Which network wins a search of coefficients, and what is it compared with?

Everything is a function of the table: a search that goes on, or is only computed again, comes to
the same choice. Where a training is missing, whoever runs the contest is asked for it.
"""

import dataclasses
import random
from collections.abc import Callable, Sequence

import numpy as np

from effnet_tf.search.candidates import AXES, Candidate, unscaled
from effnet_tf.search.filling import Wanted
from effnet_tf.search.halving import trainings
from effnet_tf.search.question import CHOICE_FOLD, Question
from effnet_tf.search.rows import Table

RANDOM, FINAL = "random", "final"  # rungs, besides those of halving


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a search has come to.

    Attributes:
        candidates: all that were compared.
        existing: how many there are of that cost.
        finalists: the candidates of the last rung, the best first.
        drawn: those of the random search, the best first.
        roles: who was trained again for the report, by the part that it plays.
    """

    candidates: list[Candidate]
    existing: int
    finalists: list[Candidate]
    drawn: list[Candidate]
    roles: dict[str, Candidate]

    @property
    def chosen(self) -> Candidate:
        """The winner."""
        return self.finalists[0]


class Contest:
    """A search of coefficients.

    Args:
        question: what is asked.
        table: of its trainings.
        train: sees to it that the table has what is wanted.
    """

    def __init__(
        self, question: Question, table: Table, train: Callable[[list[Wanted]], None]
    ) -> None:
        self._question, self._table, self._train = question, table, train
        self._candidates, self._existing = question.candidates()
        self._rungs = question.rungs(len(self._candidates))

    def trainings(self) -> int:
        """Returns how many trainings it takes at most."""
        drawn = len(self._drawn()) * self._question.seeds
        final = (len(AXES) + 4) * self._question.seeds
        return trainings(self._rungs) + drawn + final

    def run(self) -> Outcome:
        """Halves, draws at random at the same budget, and trains the roles with fresh seeds."""
        ranking, finalists = self._halve()
        every_seed = range(self._question.seeds)
        drawn = self._drawn()
        self._train(self._wanted(RANDOM, drawn, every_seed))
        drawn = self._ranked(drawn, every_seed)
        roles = self._roles(ranking, drawn)
        self._train(
            [
                Wanted(FINAL, each, fold, seed, self._question.settings.epochs)
                for each in roles.values()
                for fold, seed in self._question.fresh()
            ]
        )
        return Outcome(self._candidates, self._existing, ranking[:finalists], drawn, roles)

    def _wanted(self, rung, candidates, seeds):
        epochs = self._question.settings.epochs
        return [
            Wanted(rung, each, CHOICE_FOLD, seed, epochs) for each in candidates for seed in seeds
        ]

    def _halve(self):
        """Returns all candidates, the best first, and how many came to the last rung."""
        ranking = self._candidates
        for rung in self._rungs:
            left, out = ranking[: rung.keep], ranking[rung.keep :]
            self._train(self._wanted(str(rung.number), left, rung.seeds))
            # Not what others have trained of them since: the same table gives the same ranking.
            ranking = self._ranked(left, range(rung.seeds[-1] + 1)) + out
        return ranking, self._rungs[-1].keep

    def _ranked(self, candidates, seeds):
        """Returns candidates, those of the best mean over some seeds first."""
        return sorted(candidates, key=lambda each: -np.mean(self.accuracies(each, seeds)))

    def accuracies(self, candidate: Candidate, seeds: Sequence[int]) -> list[float]:
        """Returns what a candidate has reached in the choice with some seeds."""
        wanted = self._wanted("", [candidate], seeds)
        return [self._table.accuracy(each.training) for each in wanted]

    def _drawn(self):
        """Returns the candidates of a random search that takes as many trainings as halving."""
        count = max(1, trainings(self._rungs) // self._question.seeds)
        count = min(count, len(self._candidates))
        return random.Random(1).sample(self._candidates, count)

    def _roles(self, ranking, drawn):
        roles = {"base": unscaled(self._question.base)}
        for axis in AXES:
            alone = [each for each in ranking if each.axes == (axis,)]
            if alone:
                roles[f"{axis} only"] = alone[0]
        roles["random, median"] = drawn[len(drawn) // 2]
        roles["random, best"] = drawn[0]
        roles["chosen"] = ranking[0]
        return roles
