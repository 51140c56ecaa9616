"""quiet.py: what C++ writes while TensorFlow starts: noise is dropped, everything else is seen."""

import logging
import os
import subprocess
import sys

import pytest

from effnet_tf import quiet

NOISE = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "I0000 00:00:1796065850.744113   25928 port.cc:153] oneDNN custom operations are on.",
    "E0000 00:00:1796065850.744113   25928 node.cc:2] oneDNN supports DT_INT32 only when",
)
PROGRAM = """
import os, sys
from effnet_tf import quiet
with quiet.starting():
    os.write(2, b'''{noise}''')
    {inside}
print("after", file=sys.stderr)
"""


def run(inside="", verbose=False):
    """Returns (exit code, what reaches standard error) of a program that writes noise."""
    noise = "\n".join([*NOISE, "E0000 00:00:1.0 5 a.cc:3] The disk is on fire", ""])
    program = PROGRAM.format(noise=noise, inside=inside)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, quiet.VERBOSE: verbose * "1"},
    )
    return done.returncode, done.stderr.splitlines()


def test_only_noise_is_dropped():
    assert run() == (0, ["E0000 00:00:1.0 5 a.cc:3] The disk is on fire", "after"])


def test_all_is_seen_if_asked_for():
    assert run(verbose=True)[1][:3] == list(NOISE)


@pytest.mark.parametrize(
    "inside, code",
    [
        ("os.write(2, b'illegal instruction'); os.abort()", -6),
        ("print('the end', file=sys.stderr, flush=True); os._exit(2)", 2),
        ("raise KeyError('x')", 1),
    ],
)
def test_the_last_words_of_a_crash_are_seen(inside, code):
    found, lines = run(inside)
    assert found == code
    assert "illegal instruction" in lines or "the end" in lines or "KeyError: 'x'" in lines


def test_where_tensorflow_is_there_nothing_is_done(monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    with quiet.starting():
        assert "tensorflow" in sys.modules


def test_the_level_is_chosen(monkeypatch):
    level = logging.getLogger("tensorflow").level
    monkeypatch.setenv(quiet.LEVEL, "2")
    monkeypatch.setenv(quiet.VERBOSE, "")
    quiet.choose(False)
    assert os.environ[quiet.LEVEL] == "3" and logging.getLogger("tensorflow").level == logging.ERROR
    quiet.choose(True)
    assert os.environ[quiet.LEVEL] == "0" and quiet.is_verbose()
    logging.getLogger("tensorflow").setLevel(level)
