"""Where did the time of a run go?"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import first_line
from effnet_tf.messages import log
from effnet_tf.runs import texts


class Goodput:
    """Where the time of a run went: seconds by purpose, which add up to the wall time.

    It goes on from `goodput.json`, so that it covers all processes of a run; what a
    killed process did after its last checkpoint is lost work.

    Args:
        workdir: directory of the run.
    """

    PURPOSES = ("steps", "data_wait", "checkpoint", "evaluation", "start_up", "lost_work", "other")
    WORK = ("steps", "data_wait")  # what is lost with the steps

    def __init__(self, workdir: str):
        self.path = os.path.join(workdir, "goodput.json")
        self.seconds = dict.fromkeys(self.PURPOSES, 0.0)
        self._purpose = "start_up"
        self._since = self._written = time.monotonic()
        self.saved = dict.fromkeys(self.WORK, 0.0)  # seconds of it that checkpoints hold

    def load(self) -> None:
        """Takes over what earlier processes of this run spent."""
        if not tf.io.gfile.exists(self.path):
            return
        try:
            before: Any = storage.parse_json(storage.read_bytes(self.path, texts.MOST))
            earlier = {purpose: float(before["seconds"][purpose]) for purpose in self.PURPOSES}
            saved = self._shares(before["saved"], earlier)
        except (
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            OSError,
            tf.errors.OpError,
        ) as error:
            log.info(
                f"'{self.path}' is damaged ({first_line(error)}): the time of earlier processes "
                "is not counted."
            )
            return
        for purpose, spent in earlier.items():
            self.seconds[purpose] += spent
        self.saved = saved
        self.lose()

    def _shares(self, saved, seconds):
        """Returns the saved seconds by purpose; earlier versions wrote their sum."""
        if isinstance(saved, dict):
            return {purpose: float(saved[purpose]) for purpose in self.WORK}
        work = sum(seconds[purpose] for purpose in self.WORK)
        share = 0.0
        if work:
            share = min(float(saved) / work, 1.0)
        return {purpose: share * seconds[purpose] for purpose in self.WORK}

    def lose(self) -> None:
        """Books the work since the last checkpoint as lost."""
        self._book()
        for purpose in self.WORK:
            lost = self.seconds[purpose] - self.saved[purpose]
            self.move(max(lost, 0.0), purpose, "lost_work")

    def _book(self):
        now = time.monotonic()
        self.seconds[self._purpose] += now - self._since
        self._since = now

    def switch(self, purpose: str) -> str:
        """Books the time since the last call, and goes on with another; returns the one before."""
        self._book()
        before, self._purpose = self._purpose, purpose
        return before

    @contextlib.contextmanager
    def timed(self, purpose: str) -> Iterator[None]:
        """Books the time inside on a purpose; may be nested."""
        before = self.switch(purpose)
        try:
            yield
        finally:
            self.switch(before)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Books seconds of one purpose on another."""
        self.seconds[source] -= seconds
        self.seconds[target] += seconds

    def checkpointed(self) -> None:
        """Notes that all work so far is in a checkpoint."""
        self._book()
        self.saved = {purpose: self.seconds[purpose] for purpose in self.WORK}

    def write(self) -> None:
        """Writes goodput.json."""
        self._book()
        self._written = self._since
        storage.write_text(
            self.path,
            json.dumps(
                {"seconds": self.seconds, "total": sum(self.seconds.values()), "saved": self.saved},
                indent=2,
            )
            + "\n",
        )

    def write_sometimes(self) -> None:
        """Writes it every ten seconds: a killed process cannot."""
        if time.monotonic() - self._written > 10:
            self.write()

    def __str__(self) -> str:
        self._book()
        total = sum(self.seconds.values())
        parts = ", ".join(
            f"{purpose.replace('_', ' ')} {seconds:.1f} s ({seconds / total:.0%})"
            for purpose, seconds in self.seconds.items()
        )
        return f"Time: {total:.1f} s = {parts}"
