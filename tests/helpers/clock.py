"""A clock for what may take seconds on any machine, however busy it is."""

import threading
import time

STEP = 0.02  # seconds
# Seconds that a program may take to end after its last line. It takes 0.1 (`programs.leave`, whose
# test lets threads and exit handlers sleep); before, it took 168. Between them lies what a machine
# needs to take a process down: 7 were seen, on one that had stopped for that process alone.
LEAVING = 40.0


class Clock:
    """Counts seconds in which this process gets on.

    While the machine stands still, or gives this process no time, it stands still, too: the
    machine that a test is run on was once seen to stop for seconds on end.

    Attributes:
        seconds: since it was started.
    """

    def __init__(self):
        self.seconds = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()

    def _tick(self):
        while not self._stopped.is_set():
            time.sleep(STEP)
            self.seconds += STEP
