"""How does a worker do its part of a search, until enough trials are finished?"""

from collections.abc import Callable, Mapping
from typing import Any

from effnet_tf import progress
from effnet_tf.isolated import WorkerError
from effnet_tf.search import processes as forks
from effnet_tf.search.processes import Running
from effnet_tf.search.rewards import Objective
from effnet_tf.search.space import Space, Spec
from effnet_tf.search.studies import Study
from effnet_tf.search.trials import Job, Trials, key_of
from effnet_tf.variants import Variant

PAUSE = 0.5  # seconds, between two looks at what the other workers do
MOST_FAILURES = 5  # in a row: then it is not the networks that are at fault

Costs = Callable[[Variant, Mapping[str, Any]], dict[str, float]]


class Search:
    """A worker of a study.

    Args:
        study: what to try, shared with other workers.
        space: which networks there are.
        objective: what makes one better than another.
        trials: evaluates them.
        costs: function of a network and its result, which returns {name of a cost: number}.
        cost: the name of the one that counts.
        processes: trials that are evaluated at the same time.
    """

    def __init__(
        self,
        study: Study,
        space: Space,
        objective: Objective,
        trials: Trials,
        costs: Costs,
        cost: str,
        processes: int = 1,
    ):
        self._study, self._space, self._objective, self._trials = study, space, objective, trials
        self._costs, self._cost, self._processes = costs, cost, processes
        self._running: dict[int, tuple[Spec, Job, Running]] = {}
        self._failures = 0

    def run(self, wanted: int) -> None:
        """Evaluates networks until a study has so many finished trials, from all its workers.

        Raises:
            InputError: the networks cannot be trained with these images and settings.
            WorkerError: trial after trial has failed.
        """
        done = len(self._study.finished())
        with progress.bar("Searching", wanted, unit="trials") as bar:
            bar.n = bar.initial = min(done, wanted)
            try:
                while done < wanted:
                    self._begin(wanted - done)
                    self._wait()
                    finished = self._study.finished()
                    done = len(finished)
                    _show(bar, finished, wanted)
            finally:
                self._give_up()

    def _begin(self, room):
        """Begins as many trials as there are processes, and room in the budget."""
        self._study.fail_lost()
        while len(self._running) < self._processes and self._study.running() < room:
            number, chosen = self._study.ask(self._space.options())
            spec = self._space.spec(chosen)
            job = self._trials.job(self._space.variant(spec))
            result = self._trials.kept(job)
            if result is None:
                self._running[number] = spec, job, self._trials.start(job)
            else:
                self._tell(number, spec, job, result)
                room -= 1

    def _wait(self):
        """Waits a while for trials to end, and tells what came of them."""
        ready = forks.wait([running for _, _, running in self._running.values()], PAUSE)
        self._study.renew()
        for number, (spec, job, running) in list(self._running.items()):
            if running in ready:
                del self._running[number]
                self._finish(number, spec, job, running)

    def _finish(self, number, spec, job, running):
        try:
            result = running.result()
        except WorkerError as error:
            self._study.fail(number, error.reason)
            self._failures += 1
            if self._failures == MOST_FAILURES:
                raise
            return
        self._failures = 0
        self._trials.keep(job, result)
        self._tell(number, spec, job, result)

    def _tell(self, number, spec, job, result):
        accuracies = result["accuracies"]
        accuracy = sum(accuracies) / len(accuracies)
        costs = self._costs(self._space.variant(spec), result)
        values = self._objective.values(accuracy, costs[self._cost])
        about = {"accuracy": accuracy, **costs, "spec": spec, "key": key_of(job)}
        self._study.tell(number, values, {**about, "seconds": result["seconds"]})

    def _give_up(self):
        """Ends what still runs: the search is over, or was interrupted."""
        for _, _, running in self._running.values():
            running.end()
        self._running.clear()
        self._study.fail_own("its worker was stopped")


def _show(bar, finished, wanted):
    bar.update(min(len(finished), wanted) - bar.n)
    if finished:
        best = max(finished, key=lambda trial: trial.values[0])
        bar.say(f"Searching (best so far: {best.values[0]:.4f}, trial {best.number})")
