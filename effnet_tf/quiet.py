"""How does TensorFlow start without its talk to itself reaching the terminal?

Its C++ writes to the process's standard error before any level of logging is obeyed. While it is
imported a small process of its own reads that, and hands on all but the lines that are known to
say nothing: whatever else is written, and be it the last words of a crash, is seen. Needs nothing
but the standard library.
"""

import contextlib
import logging
import os
import re
import signal
import sys
from collections.abc import Iterator

# What says nothing to a person who trains: absl's notice, and TensorFlow's own lines of the levels
# I and W, and those of level E that tell of kernels that were chosen or registered twice.
NOISE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called"
    rb"|[IW]0000 00:00:"
    rb"|E0000 00:00:.*(oneDNN supports|Unable to register|computation_placer)"
)
# Of the environment: 0 shows all that TensorFlow's C++ says, 3 nothing but the end of a process.
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
OURS = "2"  # what programs.begin sets
# Of the environment, which other processes of ours inherit: "1" shows what all libraries say.
VERBOSE = "EFFNET_TF_VERBOSE"


def is_verbose() -> bool:
    """Whether a person wants to see what libraries say."""
    return bool(os.environ.get(VERBOSE))


def choose(verbose: bool) -> None:
    """Chooses before TensorFlow is imported whether it may talk; "retracing" and the like, too."""
    if verbose or is_verbose():
        os.environ[LEVEL] = "0"
        os.environ[VERBOSE] = "1"
    else:
        if os.environ.get(LEVEL, OURS) == OURS:  # else a person has chosen another one
            os.environ[LEVEL] = "3"
        logging.getLogger("tensorflow").setLevel(logging.ERROR)


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Where TensorFlow is imported: drops `NOISE` from standard error.

    Without effect where it is there already, or where all shall be seen.
    """
    if is_verbose() or "tensorflow" in sys.modules or not hasattr(os, "fork"):
        yield
        return
    kept, child = _divert()
    try:
        yield
    finally:
        _restore(kept, child)


def _divert():
    """Has a process read standard error; returns (a copy of the real one, its number)."""
    sys.stderr.flush()
    kept = os.dup(2)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        _hand_on(reader, kept)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    return kept, child


def _restore(kept, child):
    sys.stderr.flush()
    os.dup2(kept, 2)  # closes the pipe: the child reads its end
    os.close(kept)
    os.waitpid(child, 0)


def _hand_on(reader, target):
    """Writes the lines that are no noise to `target` until nobody writes any more, and ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the last words of the other process are to come
    try:
        with open(reader, "rb") as lines:
            for line in lines:
                if not NOISE.match(line):
                    os.write(target, line)
    finally:
        os._exit(0)
