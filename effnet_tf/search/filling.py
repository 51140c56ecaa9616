"""Which trainings does a table still lack, and how do they get into it?"""

from collections.abc import Iterable
from typing import NamedTuple

from effnet_tf.progress import Progress
from effnet_tf.search.candidates import Candidate
from effnet_tf.search.rows import Table, Training, row_of
from effnet_tf.search.workers import Job, Workers


class Wanted(NamedTuple):
    """A training that is wanted.

    Attributes:
        rung: why, see `Row`.
        candidate: the network.
        fold: which part of the images is held out.
        seed: of weights, order and masks.
        epochs: of the training.
    """

    rung: str
    candidate: Candidate
    fold: int
    seed: int
    epochs: int

    @property
    def training(self) -> Training:
        """What its row is found by."""
        return Training(self.candidate.name, self.fold, self.seed, self.epochs)


def missing(table: Table, wanted: Iterable[Wanted]) -> list[Wanted]:
    """Returns those that a table lacks, each once."""
    found: dict[Training, Wanted] = {}
    for each in wanted:
        if each.training not in table:
            found.setdefault(each.training, each)
    return list(found.values())


def fill(table: Table, wanted: Iterable[Wanted], workers: Workers, bar: Progress) -> None:
    """Trains what a table lacks; each job's rows are in its file before the next one's.

    Args:
        table: that gets the rows.
        wanted: in the order in which they are begun.
        workers: who train.
        bar: counts trainings.

    Raises:
        WorkerLost: a process was killed; the rows of finished jobs are kept.
        SaveError: the table cannot be written.
    """
    groups: dict[tuple, list[int]] = {}
    for each in missing(table, wanted):
        key = each.rung, each.candidate, each.fold, each.epochs
        groups.setdefault(key, []).append(each.seed)
    jobs = {}
    for (rung, candidate, fold, epochs), seeds in groups.items():
        job = Job(candidate.variant, fold, epochs, tuple(seeds))
        jobs[job] = rung, candidate
    for job, accuracies in workers.run(jobs):
        rung, candidate = jobs[job]
        rows = [
            row_of(candidate, rung, job.fold, seed, job.epochs, accuracy)
            for seed, accuracy in zip(job.seeds, accuracies)
        ]
        table.add(rows)
        bar.update(len(rows))
