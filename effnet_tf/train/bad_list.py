"""Which images of a run could not be used, and are they too many?

A run lists them in its directory as they prove bad, each worker in a file of its own.
"""

import itertools
import os

from effnet_tf import storage
from effnet_tf.data import bad_images
from effnet_tf.messages import log
from effnet_tf.runs import texts
from effnet_tf.train.strategy import has_workers, is_chief
from effnet_tf.train.trainer import Trainer


class BadList:
    """The file bad_examples.jsonl of a run, and those of the other workers.

    Args:
        trainer: a `Trainer`.
        workdir: directory of the run.
    """

    def __init__(self, trainer: Trainer, workdir: str):
        self._source, self._most = trainer.source, trainer.recipe.max_bad_fraction
        self._workdir, self._is_chief = workdir, is_chief(trainer.strategy)
        self._several = has_workers(trainer.strategy)
        number = ""
        if not self._is_chief:
            number = f"-{trainer.strategy.cluster_resolver.task_id}"
        self.path = os.path.join(workdir, f"bad_examples{number}.jsonl")
        self._noted = 0  # so many of the source's are in the file

    def recall(self) -> None:
        """Looks again at the images that were bad when this run was last interrupted."""
        listed = texts.read_bad(self.path, self._source)
        for entry in listed:
            if "record" in entry:
                records = self._source.records(entry["split"])
                self._source.bad.examine(entry["split"], records, entry["record"], again=True)
        if listed:
            storage.write_rows(self.path, self._source.bad.entries)
            self._noted = len(self._source.bad.entries)

    def note(self) -> bad_images.TooManyBad | None:
        """Lists the images that have proved bad since; returns a TooManyBad, or None."""
        entries = self._source.bad.entries
        new = entries[self._noted :]
        if new:
            self._noted = len(entries)
            storage.write_rows(self.path, entries)
        for entry in new[: bad_images.SHOWN]:
            log.info(
                f"\nBad {entry['split']} image {entry['key']}: {entry['reason']}; see {self.path}"
            )
        return self._too_many() if self._is_chief else None

    def _too_many(self):
        """Returns the TooManyBad of all workers' images together, or None."""
        lists = [self._source.bad.entries]
        if self._several:
            lists += [
                texts.read_bad(os.path.join(self._workdir, name), self._source)
                for name in storage.names(self._workdir)
                if name.startswith("bad_examples") and name.endswith(".jsonl")
            ]
        found = {(row["split"], row["key"]): row for row in itertools.chain(*lists)}
        try:
            bad_images.check(self._source, self._most, self.path, [*found.values()])
        except bad_images.TooManyBad as error:
            return error
        return None
