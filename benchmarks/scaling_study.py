"""Is compound scaling better than one axis, at the same multiply-adds? On digits, here.

    python benchmarks/scaling_study.py run --processes 2   # about 25 minutes of a core; goes on
    python benchmarks/scaling_study.py table               # from the CSV file; seconds

A base that sees 4x4 pixels of the digits of scikit-learn is scaled to four times its counted
multiply-adds, within 3 %: every network that the search of coefficients enumerates, on all axes.
They are compared on one fold of the data, which chooses; and reported on others, with new seeds,
the same for all networks, after short and long trainings. docs/scaling_study.md tells of it.
"""

import argparse
import math
import pathlib
import statistics

from effnet_tf import CompoundScaling, Stage, Variant, cost, progress
from effnet_tf.search.candidates import AXES, Candidate, enumerate_candidates
from effnet_tf.search.filling import Wanted, fill, missing
from effnet_tf.search.rows import Table, Training
from effnet_tf.search.settings import Settings

HERE = pathlib.Path(__file__).parent
CSV = HERE / "scaling_study.csv"
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
    exact = cost(BASE)
    return Candidate(BASE, 1.0, 1.0, 1.0, (), exact.multiply_adds, exact.params)


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


def rivals(table: Table) -> dict[str, Candidate]:
    """Returns the networks that train long, by the part that they play.

    None is taken for what fresh seeds say of it: where several could play a part, the one whose
    cost is nearest to the wanted one does.
    """
    ranked = sorted(candidates(), key=lambda each: -mean(table, each))
    wanted = FACTOR * base().multiply_adds
    found = {"base": base()}
    for axis in AXES:
        alone = [each for each in ranked if each.axes == (axis,)]
        found[f"{axis} only"] = min(alone, key=lambda each: abs(each.multiply_adds - wanted))
    found["chosen"] = ranked[0]
    found["the paper's ratio"] = min(ranked, key=distance_from_paper)
    found["median candidate"] = ranked[len(ranked) // 2]
    return found


def distance_from_paper(candidate: Candidate) -> float:
    """Returns how far, in logarithms, its factors are from the paper's at this cost."""
    paper = CompoundScaling()
    phi = math.log(FACTOR) / math.log(paper.cost_per_phi)
    factors = candidate.depth, candidate.width, candidate.resolution
    bases = paper.alpha, paper.beta, paper.gamma
    return math.dist(map(math.log, factors), [phi * math.log(each) for each in bases])


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
