"""Is compound scaling better than one axis, at the same multiply-adds? On digits, here.

    python benchmarks/scaling_study.py run --processes 2   # minutes; goes on where it was
    python benchmarks/scaling_study.py table               # computes everything from the CSV file

A base that sees 4x4 pixels of the digits of scikit-learn is scaled to four times its counted
multiply-adds, within 3 %: every network that the search of coefficients enumerates, on all axes.
They are compared on one fold of the data, which chooses; and reported on others, with new seeds,
the same for all networks, after short and long trainings. docs/scaling_study.md tells of it.
"""

import argparse
import json
import math
import pathlib
import statistics

import numpy as np

from effnet_tf import CompoundScaling, Stage, Variant, progress
from effnet_tf.search import pictures
from effnet_tf.search.candidates import AXES, Candidate, enumerate_candidates, unscaled
from effnet_tf.search.filling import Wanted, fill, missing
from effnet_tf.search.rows import Table, Training
from effnet_tf.search.settings import Settings
from effnet_tf.search.statistics import interval, percentiles, winners

HERE = pathlib.Path(__file__).parent
CSV = HERE / "scaling_study.csv"
PICTURE = HERE.parent / "docs" / "images" / "scaling_study.png"
BASE = Variant(
    "digits",
    1.0,
    1.0,
    4,
    0.0,
    stages=(Stage(16, 1, 3, 1, 1, 24), Stage(24, 1, 3, 1, 2, 16)),
    stem_filters=24,
    head_filters=48,
    se_ratio=0.0,
    num_classes=10,
)
FACTOR, TOLERANCE = 4.0, 0.03
SIDE = 8  # of the images as they are
FOLDS = 5
SHORT, LONG = 6, 18  # epochs
SETTINGS = Settings(epochs=SHORT, batch_size=128, learning_rate=0.2)
CHOICE_FOLD, CHOICE_SEEDS = 0, tuple(range(5))
FRESH_SEEDS = tuple(range(100, 120))


def base() -> Candidate:
    """Returns the base itself, as a candidate of no axis."""
    return unscaled(BASE)


def candidates() -> list[Candidate]:
    """Returns the networks of four times its cost; sides are even, as the stem's stride."""
    return enumerate_candidates(BASE, FACTOR, TOLERANCE, multiple_of=2, most_pixels=SIDE)


def fold_of(seed: int) -> int:
    """Returns the fold that is held out with a fresh seed: never that of the choice."""
    return 1 + seed % (FOLDS - 1)


def choice() -> list[Wanted]:
    """Returns the trainings that choose: every candidate on the fold of the choice."""
    return [
        Wanted("choice", each, CHOICE_FOLD, seed, SHORT)
        for each in candidates()
        for seed in CHOICE_SEEDS
    ]


def report(networks: list[Candidate], epochs: int) -> list[Wanted]:
    """Returns the trainings of the report, with the same fresh seeds for every network."""
    return [
        Wanted(f"report-{epochs}", each, fold_of(seed), seed, epochs)
        for each in networks
        for seed in FRESH_SEEDS
    ]


def run(processes: int) -> None:
    """Trains what the CSV file lacks."""
    from effnet_tf.search import images
    from effnet_tf.search.workers import Workers

    table = Table(str(CSV))
    whole = images.load("digits", SIDE)
    with Workers(whole, FOLDS, SETTINGS, processes) as workers:

        def train(what, wanted):
            todo = len(missing(table, wanted))
            with progress.bar(what, todo, unit="trainings") as bar:
                fill(table, wanted, workers, bar)

        train("The choice", choice())
        those = list(rivals(table).values())
        train("Short trainings", report([*those, *candidates()], SHORT))
        train("Long trainings", report(those, LONG))
        train("Others, long", report(candidates(), LONG))


def mean(table: Table, candidate: Candidate) -> float:
    """Returns the mean accuracy of a candidate on the fold of the choice."""
    trainings = (Training(candidate.name, CHOICE_FOLD, seed, SHORT) for seed in CHOICE_SEEDS)
    return statistics.fmean(map(table.accuracy, trainings))


def ranked(table: Table) -> list[Candidate]:
    """Returns the candidates, the best on the fold of the choice first."""
    return sorted(candidates(), key=lambda each: -mean(table, each))


def rivals(table: Table) -> dict[str, Candidate]:
    """Returns the networks that train long, by the part that they play.

    None is taken for what fresh seeds say of it: where several could play a part, the one whose
    cost is nearest to the wanted one does.
    """
    order = ranked(table)
    wanted = FACTOR * base().multiply_adds
    found = {"base": base()}
    for axis in AXES:
        alone = [each for each in order if each.axes == (axis,)]
        found[f"{axis} only"] = min(alone, key=lambda each: abs(each.multiply_adds - wanted))
    found["chosen"] = order[0]
    found["the paper's ratio"] = min(order, key=distance_from_paper)
    found["median candidate"] = order[len(order) // 2]
    return found


def distance_from_paper(candidate: Candidate) -> float:
    """Returns how far, in logarithms, its factors are from the paper's at this cost."""
    paper = CompoundScaling()
    phi = math.log(FACTOR) / math.log(paper.cost_per_phi)
    factors = candidate.depth, candidate.width, candidate.resolution
    bases = paper.alpha, paper.beta, paper.gamma
    return math.dist(map(math.log, factors), [phi * math.log(each) for each in bases])


def by_seed(table: Table, name: str, epochs: int) -> dict[int, float]:
    """Returns the errors of a network, in percent, by the fresh seeds that it was trained with."""
    trainings = [Training(name, fold_of(seed), seed, epochs) for seed in FRESH_SEEDS]
    return {each.seed: 100 - 100 * table.accuracy(each) for each in trainings if each in table}


def errors(table: Table, name: str, epochs: int) -> np.ndarray:
    """Returns these errors as an array."""
    return np.array(list(by_seed(table, name, epochs).values()))


def summary(values: np.ndarray) -> list[float] | None:
    """Returns mean, low, high, rounded; None of nothing."""
    if not len(values):
        return None
    return [round(each, 3) for each in interval(values)]


def of_candidate(table: Table, each: Candidate) -> dict:
    """Returns what a row of the table of all candidates says."""
    choice_errors = [
        100 - 100 * table.accuracy(Training(each.name, CHOICE_FOLD, seed, SHORT))
        for seed in CHOICE_SEEDS
        if each.axes
    ]
    return {
        "name": each.name,
        "axes": "+".join(each.axes),
        "depth": each.depth,
        "width": each.width,
        "side": each.variant.resolution,
        "multiply_adds": each.multiply_adds,
        "times_base": round(each.multiply_adds / base().multiply_adds, 3),
        "params": each.params,
        "choice": summary(np.array(choice_errors)),
        "short": summary(errors(table, each.name, SHORT)),
        "long": summary(errors(table, each.name, LONG)),
    }


def against(table: Table, chosen: Candidate, rival: Candidate, epochs: int) -> list[float] | None:
    """Returns how much larger a rival's error is than that of the chosen network, by pairs."""
    mine, theirs = (by_seed(table, each.name, epochs) for each in (chosen, rival))
    return summary(np.array([theirs[seed] - mine[seed] for seed in mine if seed in theirs]))


def compute(table: Table) -> dict:
    """Returns everything that the pages say, from the table of trainings alone."""
    parts = rivals(table)
    chosen = parts["chosen"]
    lengths = {"short": SHORT, "long": LONG}
    those = candidates()
    by_choice = np.array(
        [
            [table.accuracy(Training(each.name, CHOICE_FOLD, seed, SHORT)) for seed in CHOICE_SEEDS]
            for each in those
        ]
    )
    coefficients = np.array([each.coefficients(FACTOR) for each in those])
    won = coefficients[winners(by_choice)]
    return {
        "seeds": len(FRESH_SEEDS),
        "epochs": lengths,
        "trainings": len(table.rows),
        "coefficients": {
            name: [round(value, 3), *(round(each, 3) for each in percentiles(column))]
            for name, value, column in zip(
                ("alpha", "beta", "gamma"), chosen.coefficients(FACTOR), won.T
            )
        },
        "median": {
            length: round(
                statistics.median(errors(table, each.name, epochs).mean() for each in those), 3
            )
            for length, epochs in lengths.items()
        },
        "roles": {role: each.name for role, each in parts.items()},
        "candidates": [of_candidate(table, each) for each in (base(), *ranked(table))],
        "against": {
            role: {
                length: against(table, chosen, each, epochs) for length, epochs in lengths.items()
            }
            for role, each in parts.items()
            if each != chosen
        },
    }


def write(table: Table) -> None:
    """Writes the figures and the picture."""
    found = compute(table)
    (HERE / "scaling_study.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    points = []
    for each in candidates():
        values = 1 - errors(table, each.name, SHORT) / 100
        points.append(pictures.Point(each, interval(values), len(values)))
    own = interval(1 - errors(table, BASE.name, SHORT) / 100)
    title = f"Digits: networks of {FACTOR:g} times the base's multiply-adds, {SHORT} epochs"
    pictures.draw(points, own, title, str(PICTURE))


def parse() -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("run", "table"))
    parser.add_argument("--processes", type=int, default=1, help="that train (default 1)")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.step == "run":
        run(options.processes)
    else:
        write(Table(str(CSV)))
