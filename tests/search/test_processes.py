"""search/processes.py: functions in processes of their own, however these end."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from effnet_tf import InputError
from effnet_tf.isolated import WorkerError
from effnet_tf.search import processes


def double(number):
    print("said to nobody")
    return {"twice": 2 * number, "process": os.getpid()}


def refuse(number):
    raise InputError(f"{number} is too many.")


def fail(number):
    raise RuntimeError(f"no {number} here")


def die(number):
    print("last words", flush=True)
    os.kill(os.getpid(), number)


def leave(number):
    os.write(2, b"a library has had enough\n")
    os._exit(number)


def sleep(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(100)


@pytest.fixture(scope="module")
def server():
    return processes.ForkServer()


def test_each_call_has_a_process_of_its_own(server, capfd):
    running = [server.start(double, number) for number in (1, 2)]
    found = [each.result() for each in running]
    assert [each["twice"] for each in found] == [2, 4]
    assert len({os.getpid(), *(each["process"] for each in found)}) == 3
    assert "said to nobody" not in capfd.readouterr().out


@pytest.mark.parametrize(
    "function, argument, kind, said",
    [
        (refuse, 3, InputError, "^3 is too many.$"),
        (fail, 3, WorkerError, "RuntimeError: no 3 here"),
        (die, signal.SIGABRT, WorkerError, r"crashed with SIGABRT \(last words\)"),
        (die, signal.SIGKILL, WorkerError, "it was killed; was there enough memory"),
        (leave, 3, WorkerError, r"exit code 3 \(a library has had enough\)"),
    ],
)
def test_failures_are_told(server, function, argument, kind, said):
    with pytest.raises(kind, match=said):
        server.start(function, argument).result()


def test_waiting_is_for_the_first(server, tmp_path):
    slow, quick = server.start(sleep, str(tmp_path / "pid")), server.start(double, 1)
    assert processes.wait([slow, quick], 30) == [quick]
    assert quick.result()["twice"] == 2
    start = time.monotonic()
    assert processes.wait([slow], 0.1) == [] == processes.wait([], 0.1)
    assert time.monotonic() - start > 0.15
    slow.end()


PARENT = """
import sys, time
from effnet_tf.search import processes
from tests.search.test_processes import sleep
if __name__ == "__main__":
    processes.ForkServer().start(sleep, sys.argv[1])
    time.sleep(100)
"""


def is_there(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_ends_with_its_parent(tmp_path):
    path = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    paths = os.pathsep.join(filter(None, sys.path))
    parent = subprocess.Popen(
        [sys.executable, str(script), str(path)], env={**os.environ, "PYTHONPATH": paths}
    )
    end = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.05)
    child = int(path.read_text())
    assert is_there(child)
    parent.kill()
    parent.wait()
    while is_there(child):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_a_pool_has_spawned_ends_with_its_parent(tmp_path):
    program = tmp_path / "parent.py"
    program.write_text(
        "import concurrent.futures, multiprocessing, os, signal, sys\n"
        f"sys.path.insert(0, {str(pathlib.Path(__file__).parents[2])!r})\n"
        "from effnet_tf.search import processes\n"
        "if __name__ == '__main__':\n"
        "    spawn = multiprocessing.get_context('spawn')\n"
        "    pool = concurrent.futures.ProcessPoolExecutor(\n"
        "        1, spawn, processes.end_with_the_parent\n"
        "    )\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, program], stdout=subprocess.PIPE, text=True)
    child, end = int(done.stdout), time.monotonic() + 20
    while is_there(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_there(child)
