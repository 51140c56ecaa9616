"""What does a search of coefficients say, and how sure is it?"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_tf.scaling.reporting import aligned
from effnet_tf.search import statistics
from effnet_tf.search.candidates import Candidate
from effnet_tf.search.contest import Outcome
from effnet_tf.search.question import CHOICE_FOLD, Question
from effnet_tf.search.rows import Table, Training
from effnet_tf.search.statistics import Interval
from effnet_tf.variants import CompoundScaling, Variant

COEFFICIENTS = ("alpha", "beta", "gamma")


@dataclasses.dataclass(frozen=True)
class Coefficients:
    """The answer of a search of coefficients.

    Attributes:
        alpha: factor on the depth where multiply-adds double, >= 1.
        beta: the same of the width.
        gamma: the same of the resolution.
        intervals: {"alpha": (low, high), ...}: 95 % of the choices among the finalists when seeds
            are drawn again. They say nothing of candidates that went out before.
        variant: the chosen network, ready for `model_fn`.
        finalists: names of those of the last rung, the best first.
        networks: {role: name} of those trained again for the report.
        accuracies: {role: `Interval`} with fresh seeds, on images that chose nothing.
        differences: {role: `Interval`} of the chosen network's accuracy minus that of the role's,
            paired by seed.
        candidates: how many networks were compared.
        existing: how many there are of this cost.
    """

    alpha: float
    beta: float
    gamma: float
    intervals: dict[str, tuple[float, float]]
    variant: Variant
    finalists: tuple[str, ...]
    networks: dict[str, str]
    accuracies: dict[str, Interval]
    differences: dict[str, Interval]
    candidates: int
    existing: int

    def scaling(self) -> CompoundScaling:
        """Returns the rule: `scaling().variant(phi, base)` has 2**phi times the cost, about."""
        return CompoundScaling(self.alpha, self.beta, self.gamma)


def judge(question: Question, table: Table, outcome: Outcome) -> Coefficients:
    """Returns the answer that a table of trainings gives."""
    chosen = outcome.chosen
    fresh = {role: _fresh(question, table, each) for role, each in outcome.roles.items()}
    return Coefficients(
        *chosen.coefficients(question.factor),
        intervals=_intervals(question, table, outcome.finalists),
        variant=chosen.variant,
        finalists=tuple(each.name for each in outcome.finalists),
        networks={role: each.name for role, each in outcome.roles.items()},
        accuracies={role: statistics.interval(values) for role, values in fresh.items()},
        differences={
            role: statistics.interval(fresh["chosen"] - values)
            for role, values in fresh.items()
            if role != "chosen"
        },
        candidates=len(outcome.candidates),
        existing=outcome.existing,
    )


def _fresh(question: Question, table: Table, candidate: Candidate) -> np.ndarray:
    """Returns what a network has reached in the report, one number per seed."""
    epochs = question.settings.epochs
    return np.array(
        [
            table.accuracy(Training(candidate.name, fold, seed, epochs))
            for fold, seed in question.fresh()
        ]
    )


def _intervals(
    question: Question, table: Table, finalists: Sequence[Candidate]
) -> dict[str, tuple[float, float]]:
    """Returns {coefficient: (low, high)} of the winners when seeds are drawn again."""
    epochs, seeds = question.settings.epochs, range(question.seeds)
    accuracies = []
    for each in finalists:
        trainings = [Training(each.name, CHOICE_FOLD, seed, epochs) for seed in seeds]
        accuracies.append([table.accuracy(training) for training in trainings])
    coefficients = np.array([each.coefficients(question.factor) for each in finalists])
    won = coefficients[statistics.winners(np.array(accuracies))]
    return {name: statistics.percentiles(column) for name, column in zip(COEFFICIENTS, won.T)}


def to_dict(answer: Coefficients) -> dict[str, Any]:
    """Returns an answer as JSON can hold it."""
    return dataclasses.asdict(answer)


def describe(question: Question, answer: Coefficients, roles: dict[str, Candidate]) -> list[str]:
    """Returns the lines that a person reads."""
    base = roles["base"]
    lines = [
        f"{answer.existing} networks cost {question.factor:g} times {base.name} within "
        f"{100 * question.tolerance:g} %; {answer.candidates} were compared.",
        "",
    ]
    for name, title in zip(COEFFICIENTS, ("depth", "width", "resolution")):
        low, high = answer.intervals[name]
        value = getattr(answer, name)
        lines.append(f"{name:<6}{value:.3f}   95 %: {low:.3f} to {high:.3f}   ({title})")
    lines += ["", *_table(question, answer, roles), ""]
    lines.append(
        f"Accuracy with {question.seeds} fresh seeds, on images that chose nothing; behind it, and "
        f"behind what the chosen network gains, the 95 % interval over seeds."
    )
    return lines


def _table(question, answer, roles):
    header = ["", "network", "depth", "width", "pixels", "multiply-adds", "accuracy, %", ""]
    rows = [[*header, "chosen gains", ""]]
    for role, each in sorted(roles.items(), key=lambda pair: -answer.accuracies[pair[0]].mean):
        cells = [role, each.name, f"{each.depth:g}", f"{each.width:g}"]
        cells += [f"{each.variant.resolution}", f"{each.multiply_adds:,}"]
        cells += shown(answer.accuracies[role])
        gains = ["", ""]
        if role in answer.differences:
            gains = shown(answer.differences[role], sign="+")
        rows.append([*cells, *gains])
    return aligned(rows)


def shown(interval: Interval, sign: str = "") -> list[str]:
    """Returns an interval of shares as two cells, in percent."""
    mean, low, high = (f"{100 * each:{sign}.2f}" for each in interval)
    return [mean, f"({low} to {high})"]
