"""How good are the networks that a search prefers, by images and seeds that it never saw?

The best of many noisy measurements looks better than it is, and a search picks the best. So a few
of its networks are trained again, and the base that it started from: on all training images, with
fresh seeds, and judged by the images that the data set holds out.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping
from typing import Any

from effnet_tf import progress
from effnet_tf.search import processes
from effnet_tf.search.trials import TEST, Trials
from effnet_tf.variants import Variant

FIRST_SEED = 1000  # searches use those from 0 on


@dataclasses.dataclass(frozen=True)
class Confirmed:
    """A network that was trained again.

    Attributes:
        result: of `trials.evaluate`, on the images that the data set holds out.
    """

    result: Mapping[str, Any]

    @property
    def accuracies(self) -> list[float]:
        """In [0, 1], one per seed."""
        return self.result["accuracies"]

    @property
    def mean(self) -> float:
        """Of the accuracies."""
        return statistics.fmean(self.accuracies)

    @property
    def margin(self) -> float:
        """Half of the 95 % confidence interval of the mean, by the normal distribution.

        nan with one seed. With fewer than ten it is too narrow, by a quarter with five.
        """
        if len(self.accuracies) < 2:
            return math.nan
        return 1.96 * statistics.stdev(self.accuracies) / math.sqrt(len(self.accuracies))


def confirm(
    networks: Mapping[str, Variant], trials: Trials, at_once: int = 1
) -> dict[str, Confirmed]:
    """Trains networks again.

    Args:
        networks: by any names.
        trials: evaluates them; its seeds are how many trainings there are of each.
        at_once: processes.

    Returns:
        The same names with what came of them.

    Raises:
        WorkerError: a training has failed.
    """
    jobs = {name: trials.job(row, TEST, FIRST_SEED) for name, row in networks.items()}
    found = {name: trials.kept(job) for name, job in jobs.items()}
    waiting = [name for name, result in found.items() if result is None]
    running: dict[str, processes.Running] = {}
    with progress.bar("Training again", len(waiting), unit="networks") as bar:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    name = waiting.pop(0)
                    running[name] = trials.start(jobs[name])
                for name in _ready(running):
                    result = found[name] = running.pop(name).result()
                    trials.keep(jobs[name], result)
                    bar.update(1)
        finally:
            for each in running.values():
                each.end()
    return {name: Confirmed(result) for name, result in found.items() if result is not None}


def _ready(running):
    ready = processes.wait(list(running.values()), 60)
    return [name for name, each in running.items() if each in ready]


def describe(confirmed: Mapping[str, Confirmed], costs: Mapping[str, str]) -> list[str]:
    """Returns the lines of a table: accuracy with its 95 % interval, and the cost, of each."""
    width = max(len(name) for name in ("network", *confirmed))
    lines = [f"{'network':<{width}}  accuracy, %    cost"]
    for name, each in confirmed.items():
        accuracy = f"{100 * each.mean:.2f} ± {100 * each.margin:.2f}"
        lines.append(f"{name:<{width}}  {accuracy:<13}  {costs[name]}")
    return lines
