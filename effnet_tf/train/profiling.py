"""On what does the device spend the time of a step?

A few steps are recorded by TensorFlow's profiler, once compiling and the first batches are
over. Nothing that is computed changes: only how many steps run at once.
"""

import os

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import first_line
from effnet_tf.messages import log
from effnet_tf.train.strategy import has_workers, is_chief

AFTER = 10  # steps of this process that are left out
STEPS = 5  # that are recorded


class Profiler:
    """Records some steps of a run into its folder for TensorBoard.

    Several workers must run the same steps at once, and so their loops are not cut: then one
    loop after the tenth step is recorded, on the first worker.

    Args:
        workdir: directory of the run.
        strategy: a tf.distribute strategy.
        wanted: whether to record anything.
    """

    def __init__(self, workdir: str, strategy: tf.distribute.Strategy, wanted: bool):
        self._workdir = workdir
        self._folder = os.path.join(workdir, "tensorboard")
        self._cuts_loops = not has_workers(strategy)
        self._waits = wanted and is_chief(strategy)
        self._is_running = False
        self._before, self._left = AFTER, STEPS

    def limit(self, count: int) -> int:
        """Returns how many of `count` steps to run at once, so as to begin and end in time."""
        if not self._cuts_loops or not (self._waits or self._is_running):
            return count
        if self._before > 0:
            return min(count, self._before)
        return min(count, self._left)

    def begin_steps(self) -> None:
        """Begins to record, if it is time."""
        if not self._waits or self._before > 0:
            return
        self._waits = False
        try:
            tf.profiler.experimental.start(self._folder)
            self._is_running = True
        except tf.errors.AlreadyExistsError as error:
            log.info(f"Steps are not profiled: {first_line(error)}.")

    def end_steps(self, count: int) -> None:
        """Takes down steps that have been made; ends the record after the last.

        Args:
            count: how many of them.
        """
        if self._is_running:
            self._left -= count
            if self._left <= 0:
                self._write()
        else:
            self._before -= count

    def _write(self):
        self._is_running = False
        with storage.writing(self._workdir):
            tf.profiler.experimental.stop()
        log.info(
            f"\n{STEPS - self._left} steps are profiled in {self._folder}/plugins/profile: look at "
            f"them with 'tensorboard --logdir {self._folder}', page Profile (pip install "
            "tensorboard-plugin-profile)."
        )

    def close(self) -> None:
        """Ends the record of a run that ends in the middle of it; says so if there is none."""
        if self._is_running:
            self._write()
        elif self._waits:
            log.info(
                f"No step was profiled: that begins after {AFTER} steps, and this process made "
                f"{AFTER - self._before}."
            )
            self._waits = False
