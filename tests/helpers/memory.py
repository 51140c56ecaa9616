"""How much memory does a test process take? Frees what tests leave, says and limits its peak.

A pytest plugin, loaded by tests/conftest.py. TensorFlow keeps every graph with a custom
gradient (swish is one) for ever, and the C library keeps what was freed in up to eight
arenas per core: a process that ran all tests reached 6 to 7 GB. See also tests/run.py.
"""

import contextlib
import ctypes
import gc
import resource
import sys

import keras
import pytest
from tensorflow.python.framework import ops

# After a test that took so many MiB, and after each file, what can be freed is.
LARGE = 150
ON_LINUX = sys.platform == "linux"


def _malloc():
    """glibc's functions for its heap; None with another C library."""
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def _status(name):
    """A line of /proc/self/status in MiB."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) // 1024
    raise LookupError(name)


def free():
    """Frees what nobody holds, and gives it back to the system."""
    gc.collect()
    if _malloc():
        _malloc().malloc_trim(0)


def _forget_gradients():
    """Drops the gradient functions of graphs: each holds the graph that it was made in."""
    known = getattr(getattr(ops, "gradient_registry", None), "_registry", {})
    for name in [name for name in known if name.startswith("CustomGradient-")]:
        del known[name]


def taken_by(function):
    """Runs a function; returns the MiB by which it raised the memory at its highest."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM starts again from here: man 5 proc
    before = _status("VmHWM")
    function()
    return _status("VmHWM") - before


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_of_a_file():
    """Set up first and so torn down last: the models of a file's fixtures are gone by then."""
    yield
    _forget_gradients()
    keras.backend.clear_session()
    free()


class _Peaks:
    """MiB: of this process, and of the largest that it started."""

    own = children = 0


@pytest.fixture(autouse=True)
def _memory_stays_small(request):
    """Fails the test in which this process, or one that it started, passes --max-memory."""
    before = _status("VmRSS") if ON_LINUX else 0
    yield
    if not ON_LINUX:
        return
    if _status("VmRSS") - before > LARGE:
        free()
    old = max(_Peaks.own, _Peaks.children)
    _Peaks.own = max(_Peaks.own, _status("VmHWM"))
    _Peaks.children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    limit = request.config.option.max_memory
    assert not limit or max(_Peaks.own, _Peaks.children) <= max(limit, old), (
        f"This process reached {_Peaks.own} MiB, the largest it started {_Peaks.children} MiB: "
        f"more than {limit}. Use a smaller network (tests/helpers/tiny_net.py), or free "
        "what the test keeps."
    )


def pytest_terminal_summary(terminalreporter):
    if _Peaks.own:
        terminalreporter.write_line(
            f"Memory of this test process at its highest: {_Peaks.own:,} MiB; of the largest "
            f"that it started: {_Peaks.children:,} MiB"
        )
