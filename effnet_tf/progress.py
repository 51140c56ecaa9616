"""How does a person see how far something is: live on a terminal or in a notebook, as plain lines
in a log?

    for image in progress.bar("Reading", total=5_000, iterable=images):
        ...
    with progress.bar("Calibrating", total=100) as bar:
        bar.update(8)
    with progress.line() as line:
        line.say("epoch 1/10  loss 2.30")

All of it is tqdm's, so `update`, `close` and so on are as tqdm has them.
"""

import contextlib
import io
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

import tqdm

from effnet_tf import quiet
from effnet_tf.errors import printable
from effnet_tf.messages import log
from effnet_tf.terminal import Movement

EVERY = 60.0  # seconds between two lines in a log
# In a log a drawn bar is noise.
_PLAIN = "{desc}: {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}, {rate_fmt}]"


class Progress(tqdm.tqdm):
    """A tqdm bar, or a line of text only, that no name can make steer the terminal."""

    _over: threading.Event | None = None

    @staticmethod
    def format_meter(*given: Any, **named: Any) -> str:
        """Returns what tqdm makes of the state, with "13.8 s each" for its "13.8s/ trials"."""
        text = tqdm.tqdm.format_meter(*given, **named)
        return text.replace(f"s/{named.get('unit')}", " s each")

    def say(self, text: str) -> None:
        """Shows a text in front of the bar, or as the line."""
        self.set_description_str(printable(text))

    def tick(self) -> None:
        """Has the bar move every second, also while nothing is counted, until it is closed."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._refresh_every_second, daemon=True)
        self._thread.start()

    def _refresh_every_second(self):
        while not self._over.wait(1.0):
            if time.time() - self.start_t >= self.delay:
                self.refresh()

    def close(self) -> None:
        """Ends the bar; nothing is drawn after that."""
        if self._over is not None:
            self._over.set()
            self._thread.join()
        super().close()


class _Live:
    """What tqdm writes to a terminal: it moves the cursor, and the names in it do not."""

    def __init__(self, stream):
        self._stream = stream
        self.flush, self.isatty, self.fileno = stream.flush, stream.isatty, stream.fileno
        self.encoding = getattr(stream, "encoding", None)

    def write(self, text):
        self._stream.write(Movement(text))


class _Lines:
    """What tqdm writes to a log: a whole line once a minute, and the last one."""

    encoding = None

    def __init__(self, stream):
        self._stream, self.flush = stream, stream.flush
        self._printed, self._latest, self._said = time.monotonic(), "", ""

    def isatty(self):
        return False

    def write(self, text):
        """Takes what tqdm writes: a return and a state, or a line break when the bar ends."""
        state = text.strip("\r\n ")
        if state and state != self._said and not state.startswith("\x1b"):
            self._latest = state
        if "\n" in text or time.monotonic() - self._printed >= EVERY:
            self._print()

    def _print(self):
        if self._latest:
            self._stream.write(f"{self._latest}\n")
            self._said = self._latest
        self._printed, self._latest = time.monotonic(), ""


def bar(
    title: str,
    total: int | None = None,
    *,
    iterable: Iterable | None = None,
    unit: str = "images",
    file: TextIO | io.TextIOBase | None = None,
    leave: bool = True,
    delay: float = 0,
    shown: bool = True,
) -> Progress:
    """Returns a bar that counts up to a total; iterate over it, or call its `update`.

    Args:
        title: what is being done; names in it cannot steer the terminal.
        total: how many there will be; None: not known.
        iterable: what to iterate over.
        unit: what is counted, in the plural.
        file: where to; None: standard error.
        leave: whether a terminal still shows it afterwards; a log always has the last line.
        delay: seconds; nothing is shown of what takes less.
        shown: False: nowhere, as when the logger "effnet_tf" is silenced.
    """
    stream = file or sys.stderr
    is_live = _is_live(stream)
    drawn = None  # as tqdm draws it
    if not is_live:
        drawn = _PLAIN
    made = Progress(
        iterable,
        printable(title),
        total,
        unit=f" {unit}",
        delay=delay,
        file=_written_to(stream),
        leave=leave or not is_live,
        bar_format=drawn,
        disable=not (shown and log.isEnabledFor(logging.INFO)),
    )
    if is_live and not made.disable:
        made.tick()
    return made


def shown_by(bar: Progress) -> Callable[[int, int], None]:
    """Returns a function of (done, of how many) that moves a bar."""

    def show(done, total):
        bar.total = total
        bar.update(done - bar.n)

    return show


def line(file: TextIO | io.TextIOBase | None = None, shown: bool = True) -> Progress:
    """Returns a line that shows what was last given to its `say`; `close` ends the line.

    Args:
        file: where to; None: standard output.
        shown: False: nowhere, as when the logger "effnet_tf" is silenced.
    """
    return Progress(
        bar_format="{desc}",
        file=_written_to(file or sys.stdout),
        disable=not (shown and log.isEnabledFor(logging.INFO)),
    )


@contextlib.contextmanager
def every_second(say: Callable[[str], object]) -> Iterator[None]:
    """Tells a function every second how much time has gone by inside: "0:07", "1:02:03".

    It is called from another thread, but never after the end.
    """
    over, begun = threading.Event(), time.monotonic()

    def tick():
        while not over.wait(1.0):
            say(clock(time.monotonic() - begun))

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def elapsed(title: str, file: TextIO | io.TextIOBase | None = None) -> Iterator[None]:
    """Shows a title and the time since, where nothing else can be counted.

    Args:
        title: what goes on.
        file: where to; None: standard output.
    """
    with line(file) as shown, every_second(lambda time: shown.say(f"{title} {time}")):
        yield


@contextlib.contextmanager
def starting(file: TextIO | io.TextIOBase | None = None) -> Iterator[None]:
    """Where TensorFlow is imported: shows for how long, and drops its talk to itself.

    Args:
        file: where to; None: standard output. Not standard error, which passes a filter here.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    with quiet.starting(), elapsed("Starting TensorFlow ...", file):  # which forks, then threads
        yield


def clock(seconds: float) -> str:
    """Returns a time as people write it: "0:07", "12:34", "1:02:03"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


def _is_live(stream):
    """Whether a person looks at a stream on which a return goes back to the line's beginning."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel.")


def _written_to(stream):
    if _is_live(stream):
        return _Live(stream)
    return _Lines(stream)
