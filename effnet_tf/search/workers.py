"""Who trains the networks of a search: this process, or several of its own?

Each network always goes to the same process, which has traced its training before.
"""

import concurrent.futures
import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, NamedTuple

from effnet_tf import quiet
from effnet_tf.errors import WorkerLost
from effnet_tf.search import processes
from effnet_tf.search.one_thread import use_one_thread
from effnet_tf.search.settings import Settings
from effnet_tf.variants import Variant

if TYPE_CHECKING:  # they import TensorFlow, which a table that is only read does not need
    from effnet_tf.search.images import Images
    from effnet_tf.search.proxy import Trainer


class Job(NamedTuple):
    """Trainings of one network.

    Attributes:
        variant: the network.
        fold: which part of the images is held out.
        epochs: of each training.
        seeds: one training each.
    """

    variant: Variant
    fold: int
    epochs: int
    seeds: tuple[int, ...]


class Bench:
    """Trains in this process, and keeps what it has traced.

    Args:
        images: all of the data set.
        folds: how many parts it is divided into.
        settings: of every training, but for its epochs.
    """

    def __init__(self, images: "Images", folds: int, settings: Settings):
        self._images, self._folds, self._settings = images, folds, settings
        self._trainers: dict[str, Trainer] = {}

    def train(self, job: Job) -> list[float]:
        """Returns the accuracy of each seed."""
        from effnet_tf.search.proxy import Trainer

        images = self._images.fold(job.fold, self._folds)
        name = job.variant.name
        if name not in self._trainers:
            self._trainers[name] = Trainer(job.variant, images, self._settings)
        trainer = self._trainers[name]
        trainer.use(images, job.epochs)
        return [trainer.accuracy(seed) for seed in job.seeds]


class Workers:
    """Trains in this process, or in several of its own; a context.

    Args:
        images, folds, settings: as of `Bench`.
        processes: how many; 1: this one.
    """

    def __init__(self, images: "Images", folds: int, settings: Settings, processes: int = 1):
        self._arguments = images, folds, settings
        self._count = processes
        self._pools: list[concurrent.futures.ProcessPoolExecutor] = []
        self._places: dict[str, int] = {}

    def __enter__(self) -> "Workers":
        if self._count == 1:
            self._bench = Bench(*self._arguments)
            return self
        context = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            pool = concurrent.futures.ProcessPoolExecutor(1, context, _begin, self._arguments)
            self._pools.append(pool)
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        # After an error nobody waits for what is being trained: the processes end with this one.
        for pool in self._pools:
            pool.shutdown(wait=kind is None, cancel_futures=True)

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, list[float]]]:
        """Yields each job with its accuracies, as they are done.

        Raises:
            WorkerLost: a process was killed.
        """
        if self._count == 1:
            for job in jobs:
                yield job, self._bench.train(job)
            return
        waiting = {self._pool(job.variant.name).submit(_train, job): job for job in jobs}
        try:
            for future in concurrent.futures.as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool:
            raise WorkerLost(
                "A process that trained was killed; was there enough memory? What was trained "
                "before is kept: the same command goes on there."
            ) from None

    def _pool(self, name):
        place = self._places.setdefault(name, len(self._places) % self._count)
        return self._pools[place]


# --- in a process of its own ------------------------------------------------------------------

_benches: list[Bench] = []


def _begin(images, folds, settings):
    """Prepares a process that trains: it ends with its parent, and leaves Ctrl-C to that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.end_with_the_parent()
    with quiet.starting():
        use_one_thread()
    _benches.append(Bench(images, folds, settings))


def _train(job):
    return _benches[0].train(job)
