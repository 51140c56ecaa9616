"""Who may steer the terminal of a program?

Our line of progress and tqdm's bars may; names of files, classes and fields may not, whoever
chose them. Needs nothing but the standard library.
"""

import io
import os
import re
import sys
from typing import BinaryIO, TextIO

from effnet_tf.errors import printable


class Movement(str):
    """A text that may move the cursor, for the `write` of a `Terminal`; it holds no names."""


class Terminal(io.TextIOBase):
    """A text stream on which only `Movement`s and progress bars move the cursor.

    Everything else that steers a terminal is written as an escape, and so is what the stream's
    encoding does not have.

    Args:
        stream: a text stream.
        has_bars: whether tqdm writes here: a return in front of a text is its own then.
    """

    def __init__(self, stream: TextIO, has_bars: bool = False):
        self._stream, self._has_bars = stream, has_bars
        self.unread = False  # nobody reads the other end of a pipe any more
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        try:
            self._stream.write(self._steady(text))
        except BrokenPipeError:
            self.unread = True
            raise
        return len(text)

    def _steady(self, text):
        """What a text is on the terminal: whatever would steer it is an escape."""
        if isinstance(text, Movement):
            return text
        start = ""
        if self._has_bars:
            if re.fullmatch(r"[\r\n]*(\x1b\[A)*\r?", text):
                return text  # tqdm moves to another line
            start = re.match(r"\r?", text)[0]
        return start + re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text[len(start) :])

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self.unread = True
            raise

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io.TextIOBase lets it be set
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> BinaryIO:
        return self._stream.buffer


def guard() -> None:
    """Guards the standard streams of this process."""
    # They are None where the shell has closed them.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    sys.stdout, sys.stderr = Terminal(sys.stdout), Terminal(sys.stderr, has_bars=True)
