"""progress.py: live on a terminal, plain lines in a log, silent where the logger is."""

import io
import logging
import re
import time

import pytest

from effnet_tf import progress, terminal
from effnet_tf.messages import log
from tests.helpers import hostile


class Tty(io.StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self):
        return True

    def fileno(self):
        return 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that only moves when it is told to, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


class TestInALog:
    def test_one_line_at_the_end(self, clock):
        file = io.StringIO()
        assert list(progress.bar("train", 3, iterable=[1, 2, 3], file=file)) == [1, 2, 3]
        (line,) = file.getvalue().splitlines()
        assert line.startswith("train: 3/3 images [")

    def test_one_line_a_minute(self, clock):
        file = io.StringIO()
        with progress.bar("Indexing", 10, unit="files", file=file) as bar:
            for _ in range(10):
                clock[0] += 20
                bar.update()
                bar.refresh()
        lines = file.getvalue().splitlines()
        assert [line.split(" [")[0] for line in lines] == [
            "Indexing: 3/10 files",
            "Indexing: 6/10 files",
            "Indexing: 9/10 files",
            "Indexing: 10/10 files",
        ]

    @pytest.mark.parametrize("leave", [True, False])
    def test_nothing_moves_a_cursor(self, leave):
        file = io.StringIO()
        outer = progress.bar("outer", 2, iterable=[1, 2], file=file, leave=leave)
        for _ in outer:
            list(progress.bar("inner\x1b[2J\r", 1, iterable=[1], file=file, leave=leave))
        shown = file.getvalue()
        assert all(each.isprintable() or each == "\n" for each in shown)
        assert "inner\\x1b[2J\\r: 1/1 images" in shown and "outer: 2/2 images" in shown

    def test_an_unknown_total(self):
        file = io.StringIO()
        list(progress.bar("Reading", iterable=iter([1, 2]), file=file))
        assert file.getvalue().startswith("Reading: 2/? images [")

    def test_an_error_leaves_how_far_it_was(self):
        file = io.StringIO()
        with pytest.raises(ValueError):
            for number in progress.bar("Reading", 9, iterable=range(9), file=file):
                if number == 4:
                    raise ValueError
        assert file.getvalue().startswith("Reading: ")

    def test_what_is_over_at_once_is_not_worth_a_line(self):
        file = io.StringIO()
        list(progress.bar("Indexing", 3, iterable=[1, 2, 3], file=file, delay=5))
        assert file.getvalue() == ""

    def test_a_line_of_text(self, clock):
        file = io.StringIO()
        with progress.line(file) as line:
            for step in range(1, 8):
                clock[0] += 20
                line.say(f"step {step}")
        assert file.getvalue() == "step 3\nstep 6\nstep 7\n"

    def test_a_line_that_was_just_said_is_not_said_again_at_the_end(self, clock):
        file = io.StringIO()
        with progress.line(file) as line:
            clock[0] += 60
            line.say("step 1")
        assert file.getvalue() == "step 1\n"


class TestOnATerminal:
    def test_is_rewritten(self):
        file = Tty()
        list(progress.bar("train", 3, iterable=[1, 2, 3], file=file))
        shown = file.getvalue()
        assert shown.startswith("\rtrain:   0%|") and shown.count("\r") > 1
        assert "3/3" in shown and shown.endswith("\n") and shown.count("\n") == 1

    @pytest.mark.parametrize("has_bars", [False, True])
    def test_names_do_not_steer_it(self, has_bars):
        behind = Tty()
        guarded = terminal.Terminal(behind, has_bars=has_bars)
        for name in (*hostile.NAMES, hostile.NOT_UTF8):
            list(progress.bar(f"Reading {name}", 1, iterable=[1], file=guarded))
        shown = behind.getvalue()
        assert all(each.isprintable() or each in "\r\n" for each in shown)
        assert "\\x1b[31mred" in shown and "\rReading grün" in shown and "\\r" in shown

    def test_a_line_of_text(self):
        behind = Tty()
        line = progress.line(terminal.Terminal(behind))
        line.say("step 1 \x1b[2J")
        line.say("step 2")
        line.close()
        shown = behind.getvalue()
        assert "\rstep 1 \\x1b[2J" in shown and "\rstep 2" in shown and shown.endswith("\n")


@pytest.mark.parametrize("kind", [io.StringIO, Tty])
def test_is_silent_with_the_logger(kind):
    level, file = log.level, kind()
    logging.getLogger("effnet_tf").setLevel("WARNING")
    try:
        assert list(progress.bar("train", 3, iterable=[1, 2, 3], file=file)) == [1, 2, 3]
        with progress.line(file) as line:
            line.say("step 1")
    finally:
        log.setLevel(level)
    list(progress.bar("train", 1, iterable=[1], file=file, shown=False))
    assert file.getvalue() == ""


def test_the_time_that_goes_by_is_shown(monkeypatch):
    told = []
    with progress.every_second(told.append):
        time.sleep(1.3)
    assert told == ["0:01"]
    assert [progress.clock(each) for each in (7.9, 754, 3723)] == ["0:07", "12:34", "1:02:03"]


def test_a_bar_moves_while_nothing_is_counted():
    file = Tty()
    with progress.bar("Evaluating", 10, file=file) as bar:
        bar.update(3)
        shown = file.getvalue()
        end = time.monotonic() + 10
        while len(file.getvalue()) == len(shown) and time.monotonic() < end:
            time.sleep(0.05)
        assert re.search(r"3/10 \[00:0[1-9]<", file.getvalue()[len(shown) :])
    shown = file.getvalue()
    time.sleep(1.2)
    assert file.getvalue() == shown  # nor is anything drawn over what follows it


def test_slow_things_are_counted_by_their_seconds():
    file = Tty()
    with progress.bar("Searching", 10, unit="trials", file=file) as bar:
        bar.start_t -= 100
        bar.update(4)
        bar.refresh()
    assert "s each" in file.getvalue() and "s/ trials" not in file.getvalue()
