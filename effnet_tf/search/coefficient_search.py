"""Which alpha, beta and gamma are best for a data set? The paper's small grid search, measured.

    python -m effnet_tf.search coefficients --base b0 --dataset folder --data_dir photos \\
        --factor 2 --workdir search

`Contest` says who is trained; this runs it, keeps every training in a table, and tells the answer.
"""

import json
import os

from effnet_tf import extras, local_files, progress
from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.search import pictures, question, statistics, verdict
from effnet_tf.search.candidates import Candidate
from effnet_tf.search.contest import Contest, Outcome
from effnet_tf.search.filling import fill, missing
from effnet_tf.search.question import CHOICE_FOLD, Question
from effnet_tf.search.rows import Table, Training
from effnet_tf.search.settings import Settings
from effnet_tf.search.verdict import Coefficients
from effnet_tf.variants import Variant, find_variant, save_variant

TABLE, ANSWER, PICTURE, CHOSEN = "trainings.csv", "coefficients.json", "axes.png", "chosen.json"


def coefficients(
    base: str | Variant,
    dataset: str,
    workdir: str,
    *,
    data_dir: str | None = None,
    factor: float = 2.0,
    tolerance: float = 0.03,
    seeds: int = 5,
    folds: int = 5,
    most: int = 32,
    multiple_of: int = 1,
    most_pixels: int | None = None,
    halving: bool = True,
    settings: Settings | None = None,
    processes: int = 1,
) -> Coefficients:
    """Searches the coefficients of compound scaling for a base and a data set.

    Networks whose counted multiply-adds are `factor` times the base's are trained, briefly, and
    compared by successive halving over seeds; the winner, the best of a random search of as many
    trainings, the best of each single axis and the base are then trained again with fresh seeds on
    other images. Called again, it goes on where it was interrupted.

    Args:
        base: a name of `VARIANTS`, a `Variant`, or a file of one.
        dataset: as of `Recipe`: "digits", "folder", a TFDS data set on disk, ... All its images
            are used, its own parts are not.
        workdir: folder for the table of all trainings (trainings.csv), the answer
            (coefficients.json), the chosen network (chosen.json) and the picture (axes.png).
        data_dir: where the data set lies.
        factor: on the base's multiply-adds, in (1, 100].
        tolerance: the largest relative distance from that, in (0, 1).
        seeds: of each network that comes to the last rung, and as many fresh ones; >= 2.
        folds: parts of the images; one is held out for the choice, the others, in turn, for the
            report; >= 2.
        most: candidates; if there are more, those of several axes are drawn at random; >= 2.
        multiple_of: what sides are a multiple of, in pixels.
        most_pixels: no side is larger; None: any.
        halving: False: every candidate gets all seeds.
        settings: of the trainings; by default `Settings()`.
        processes: that train; 1: this one.

    Returns:
        `Coefficients`.

    Raises:
        InputError: an argument is out of range, the data set cannot be used, no network has this
            cost, or `workdir` holds another search.
        SaveError: a file cannot be written.
        WorkerLost: a process was killed.
    """
    asked = Question(
        base=find_variant(base),
        images="",
        digest="",
        factor=factor,
        tolerance=tolerance,
        seeds=seeds,
        folds=folds,
        most=most,
        multiple_of=multiple_of,
        most_pixels=most_pixels,
        halving=halving,
        settings=settings or Settings(),
    )
    return _search(asked, dataset, data_dir, workdir, processes)


def _search(asked: Question, dataset, data_dir, workdir, processes):
    # They import TensorFlow, which takes seconds.
    from effnet_tf.search.images import load
    from effnet_tf.search.workers import Workers

    if processes < 1:
        raise InputError(f"processes is {processes}; it must be at least 1.")
    asked.check_base()
    side = max(each.variant.resolution for each in asked.candidates()[0])
    images = load(dataset, side, data_dir)
    asked = asked.about(images.name, images.digest(), len(images.class_names))
    question.claim(workdir, asked)
    table = Table(os.path.join(workdir, TABLE))
    with Workers(images, asked.folds, asked.settings, processes) as workers:
        contest = Contest(asked, table, lambda wanted: fill(table, wanted, workers, bar))
        most, done = contest.trainings(), len(table.rows)
        with progress.bar("Training", most, unit="trainings") as bar:
            bar.n = bar.initial = min(done, most)
            outcome = contest.run()
            bar.total = bar.n  # some of the random search's trainings were there already
    return _conclude(asked, table, outcome, workdir)


def answer(workdir: str) -> Coefficients:
    """Computes the answer of a finished search from its table again; nothing is trained.

    Args:
        workdir: its folder.

    Raises:
        InputError: there is no search, or it is not finished.
    """
    asked = question.read(workdir)
    table = Table(os.path.join(workdir, TABLE))

    def refuse(wanted):
        lacking = missing(table, wanted)
        if lacking:
            raise InputError(
                f"The search in '{workdir}' is not finished: at least {len(lacking)} trainings are "
                "missing. Give the options that it was begun with to go on with it."
            )

    outcome = Contest(asked, table, refuse).run()
    return _conclude(asked, table, outcome, workdir)


def _conclude(asked: Question, table: Table, outcome: Outcome, workdir: str) -> Coefficients:
    """Says, writes and draws what a search has come to."""
    found = verdict.judge(asked, table, outcome)
    log.info("\n".join(verdict.describe(asked, found, outcome.roles)))
    text = json.dumps(verdict.to_dict(found), indent=2) + "\n"
    local_files.write(os.path.join(workdir, ANSWER), text.encode("utf-8"))
    save_variant(found.variant, os.path.join(workdir, CHOSEN))
    written = [TABLE, ANSWER, CHOSEN]
    if extras.is_installed("matplotlib"):
        title = f"{asked.images}: networks of {asked.factor:g} times the cost of {asked.base.name}"
        points = _points(asked, table, outcome.candidates)
        base = found.accuracies["base"]
        pictures.draw(points, base, title, os.path.join(workdir, PICTURE))
        written.append(PICTURE)
    else:
        log.info(f"No picture without matplotlib: {extras.command('matplotlib')}")
    log.info(f"In {workdir}: {', '.join(written)}.")
    log.info(f"To train the chosen network: --variant {os.path.join(workdir, CHOSEN)}")
    return found


def _points(asked: Question, table: Table, candidates: list[Candidate]) -> list[pictures.Point]:
    """Returns what is drawn: each candidate over all the seeds that it got in the choice."""
    points = []
    for each in candidates:
        trainings = [
            Training(each.name, CHOICE_FOLD, seed, asked.settings.epochs)
            for seed in range(asked.seeds)
        ]
        found = [table.accuracy(training) for training in trainings if training in table]
        points.append(pictures.Point(each, statistics.interval(found), len(found)))
    return points
