"""Functions in a process of their own: effnet_tf/isolated.py. Without TensorFlow, so quickly."""

import contextlib
import glob
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from effnet_tf import isolated
from effnet_tf.errors import InputError

ROOT = pathlib.Path(__file__).parents[1]


def refuse():
    raise InputError("A sentence.")


def fail():
    raise RuntimeError("{{function_node __wrapped__X_device_/cpu:0}} no good [Op:X] name: \nmore")


def abort():
    os.write(2, b"\n2026-11-29 F tensorflow/core/tensor.cc:12] Check failed: IsAligned()\n")
    os.abort()


def sleep():
    time.sleep(1e6)


def test_results_come_back_in_order():
    assert isolated.call((json.dumps, {"obj": "caf\udce9"}), (json.loads, {"s": "[1]"})) == [
        '"caf\\udce9"',
        [1],
    ]


def test_bad_input_is_the_same_sentence():
    with pytest.raises(InputError, match="^A sentence.$"):
        isolated.call((refuse, {}))


def test_a_failure_is_one_sentence():
    with pytest.raises(isolated.WorkerError) as failed:
        isolated.call((fail, {}))
    assert failed.value.reason == "RuntimeError: no good"
    assert str(failed.value) == "The process (fail) failed: RuntimeError: no good."


def test_a_death_is_named():
    with pytest.raises(isolated.WorkerError, match=r"crashed with SIGABRT .*IsAligned") as failed:
        isolated.call((abort, {}))
    assert "\n" not in str(failed.value) and ".cc" not in str(failed.value)


def test_it_may_be_silent_for_some_time_only():
    for shown in (True, False):
        with pytest.raises(isolated.WorkerError, match="no answer for 2 seconds"):
            isolated.call((sleep, {}), silence=2, shown=shown)


def test_what_it_prints_is_shown(capsys):
    """Names that are no text, too."""
    assert isolated.call((print, {"end": "caf\udce9\nline\n"}), shown=True) == [None]
    assert capsys.readouterr().out == "caf\\xe9\nline\n"


def test_it_ends_with_its_parent():
    """A killed export leaves no process behind, not even one that is starting."""
    code = (
        "from effnet_tf import isolated\nfrom tests import test_isolated\n"
        "isolated.call((test_isolated.sleep, {}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    children = []
    while not children:
        assert parent.poll() is None
        time.sleep(0.05)
        children = _children(parent.pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(1200):  # 2 minutes: only what never ends takes so long
        if not any(map(_is_alive, children)):
            return
        time.sleep(0.1)
    pytest.fail("a child lives on")


def _children(pid):
    """The processes that a process has started (not every kernel lists them itself)."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            number, rest = file.read().rsplit(")", 1)
            if int(rest.split()[1]) == pid:
                found.append(int(number.split()[0]))
    return found


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def complain(lines):
    """A job that says much, some of it noise, and crashes."""
    for number in range(lines):
        os.write(2, f"reason {number}\n".encode())
    os.write(2, b"E0000 00:00:1.0 5 a.cc:3] oneDNN supports DT_INT32 only\n")
    os._exit(3)


class TestWhatLibrariesSay:
    def test_a_crash_tells_its_last_words_and_how_to_see_all(self):
        with pytest.raises(isolated.WorkerError) as caught:
            isolated.call((complain, {"lines": 5}))
        assert "its last words: reason 2 / reason 3 / reason 4; EFFNET_TF_VERBOSE=1" in str(
            caught.value
        )

    def test_all_of_it_is_seen_if_asked_for(self, monkeypatch, capfd):
        monkeypatch.setenv("EFFNET_TF_VERBOSE", "1")
        with pytest.raises(isolated.WorkerError, match="exit code 3"):
            isolated.call((complain, {"lines": 2}))
        said = capfd.readouterr().err
        assert "reason 0\nreason 1\n" in said and "oneDNN supports" in said
