"""What has a search found: the best, the Pareto front, and a table of all that was tried?"""

import csv
import io
import json
from collections.abc import Sequence

from effnet_tf import local_files
from effnet_tf.errors import InputError
from effnet_tf.scaling.targets import shown
from effnet_tf.search.rewards import COSTS, PARETO, front
from effnet_tf.search.studies import Finished

BEST = "best"
SHOWN = 5  # of the best, in a table on the terminal


def on_the_front(finished: Sequence[Finished], cost: str) -> list[Finished]:
    """Returns the trials that nothing beats in accuracy and cost at once, the cheapest first."""
    points = [(trial.about["accuracy"], trial.about[cost]) for trial in finished]
    return [finished[number] for number in front(points)]


def ranked(finished: Sequence[Finished]) -> list[Finished]:
    """Returns the trials by their reward, the greatest first; each network once."""
    found: dict[str, Finished] = {}
    for trial in sorted(finished, key=lambda trial: -trial.values[0]):
        found.setdefault(trial.about["key"], trial)
    return list(found.values())


def notable(finished: Sequence[Finished], objective: str, cost: str) -> list[Finished]:
    """Returns the trials to look at: the front, or the greatest rewards first."""
    if objective == PARETO:
        return on_the_front(finished, cost)
    return ranked(finished)[:SHOWN]


def find(finished: Sequence[Finished], which: str, objective: str, cost: str) -> Finished:
    """Returns a trial by its number, or the "best" one.

    Raises:
        InputError: there is none of this number that was finished; or the best of a Pareto front is
            asked for.
    """
    if not finished:
        raise InputError("No trial is finished yet: run the search first.")
    if which == BEST:
        if objective == PARETO:
            numbers = ", ".join(str(trial.number) for trial in on_the_front(finished, cost))
            raise InputError(
                f"A Pareto front has no best network: choose one of its trials, {numbers}."
            )
        return ranked(finished)[0]
    for trial in finished:
        if str(trial.number) == which:
            return trial
    raise InputError(
        f"There is no finished trial '{which}': give '{BEST}', or a number from "
        f"{finished[0].number} to {finished[-1].number} that is in the table."
    )


def describe(trials: Sequence[Finished], cost: str) -> list[str]:
    """Returns the lines of a table of trials."""
    lines = [f"{'trial':>5}  {'reward':>7}  {'accuracy':>8}  {COSTS[cost]}"]
    for trial in trials:
        about = trial.about
        lines.append(
            f"{trial.number:>5}  {trial.values[0]:>7.4f}  {about['accuracy']:>8.4f}  "
            f"{shown(about[cost])}"
        )
    return lines


def write_table(finished: Sequence[Finished], path: str) -> None:
    """Writes all trials as CSV: number, value, accuracy, costs, seconds, spec, hash.

    Raises:
        SaveError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    costs = [cost for cost in COSTS if cost in finished[0].about] if finished else []
    writer.writerow(["number", "value", "accuracy", *costs, "seconds", "key", "spec"])
    for trial in finished:
        about = trial.about
        numbers = [about[name] for name in ("accuracy", *costs, "seconds", "key")]
        writer.writerow([trial.number, trial.values[0], *numbers, json.dumps(about["spec"])])
    local_files.write(path, text.getvalue().encode("utf-8"))
