"""Workers of a search whose networks are not trained, for tests of what workers do.

python -m tests.search.searcher FOLDER TRIALS SECONDS: runs one, whose trials take so long.
"""

import hashlib
import json
import os
import sys
import time

from effnet_tf.search import processes, studies
from effnet_tf.search.rewards import Objective
from effnet_tf.search.searching import Search
from effnet_tf.search.session import costs_of
from effnet_tf.search.space import Space
from effnet_tf.search.studies import Study
from effnet_tf.search.trials import Data, Trials
from effnet_tf.variants import Stage, Variant

# Without TensorFlow, as all here: its import would take most of the time.
BASE = Variant("few", 1.0, 1.0, 8, 0.0, (Stage(16, 1, 3, 2, 3, 8),), stem_filters=8, head_filters=8)
TARGET = 20_000.0
PATIENCE = 5.0  # seconds; a busy machine may stop everybody for some


def accuracy_of(job):
    """In [0, 1), by the hash of the network."""
    text = json.dumps(job["variant"], sort_keys=True).encode()
    return int(hashlib.sha256(text).hexdigest()[:4], 16) / 2**16


def pretend(job, seconds, note):
    """What a trial does: it notes its process, waits, and says something."""
    with open(note, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)
    return {"accuracies": [accuracy_of(job)] * len(job["seeds"]), "seconds": seconds}


class Pretended(Trials):
    """Trials in real processes that train nothing."""

    def __init__(self, folder, seconds=0.0):
        data = Data("", {"digest": "none"})
        super().__init__(
            os.path.join(folder, "results"),
            data,
            {"epochs": 1},
            server=processes.ForkServer(("tests.search.searcher",)),
        )
        self.note = os.path.join(folder, "processes")
        self.seconds = seconds

    def start(self, job):
        return self._server.start(pretend, job, self.seconds, self.note)


def study_of(folder, **arguments):
    storage = studies.open_storage(os.path.join(folder, "study.journal"))
    return Study(storage, "x", settings={"target": TARGET}, patience=PATIENCE, **arguments)


def search_of(folder, seconds=0.0, count=1, trials=None, sampler="random"):
    """A worker of the search in a folder."""
    return Search(
        study_of(folder, sampler=sampler),
        Space(BASE),
        Objective("soft", TARGET),
        trials or Pretended(folder, seconds),
        costs_of,
        "multiply_adds",
        count,
    )


if __name__ == "__main__":
    search_of(sys.argv[1], float(sys.argv[3])).run(int(sys.argv[2]))
