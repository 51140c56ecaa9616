"""What is done in a process of its own?

TensorFlow's converter keeps 100 to 300 MB per conversion, and a file is checked where
nothing is left of what wrote it. `call` runs functions in a new Python, with a folder
between both: jobs.json has the jobs and their arguments, result.json the answers,
and log what TensorFlow says.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback

from effnet_tf.errors import InputError

# It ends when the process that started it was killed, from the first moment on.
_MAIN = """
import os, sys, threading, time
def watch(parent=int(sys.argv[1])):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
from effnet_tf.export import worker
worker.main(*sys.argv[2:])
"""
# A job that TensorFlow refuses writes its reason to the log; so much of it is shown.
LINES_OF_LOG = 15


class _Progress:
    """Where a job tells a person how far it is: None, or the terminal of `call`'s process."""

    terminal = None


progress = _Progress()


class WorkerError(RuntimeError):
    """A process of the exporter failed."""


def call(*jobs):
    """Runs functions in a new process, one after the other; returns their results.

    Args:
        *jobs: pairs of a name, "module.function" of effnet_tf.export, and a dict of
            arguments: what JSON can hold, paths for the rest.

    Raises:
        InputError: a job raised one.
        WorkerError: it failed otherwise; the message has the end of its log.
    """
    with tempfile.TemporaryDirectory() as folder:
        _write(folder, "jobs.json", jobs)
        home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        terminal = os.dup(2)
        with open(os.path.join(folder, "log"), "w") as log:
            done = subprocess.run(
                # -P: nothing is imported from where the user happens to be.
                [sys.executable, "-P", "-c", _MAIN, str(os.getpid()), folder, str(terminal)],
                stdout=log, stderr=log, pass_fds=[terminal],
                env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "2"})
        os.close(terminal)
        result = _read(folder, "result.json")
        if done.returncode or "error" in result:
            if "input_error" in result:
                raise InputError(result["input_error"])
            names = ", ".join(name for name, _ in jobs)
            raise WorkerError(f"The process ({names}) failed with exit code {done.returncode}"
                              f"{_signal(done.returncode)}. The end of its log:\n"
                              + _end_of_log(folder))
        return result["result"]


def _signal(code):
    return " (killed; was there enough memory?)" if code == -9 else ""


def _end_of_log(folder):
    with open(os.path.join(folder, "log"), encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-LINES_OF_LOG:])


def _write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file)


def _read(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {"error": "none"}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def main(folder, terminal):
    """Does the jobs of a folder; progress goes to a file number, all else to the log."""
    progress.terminal = os.fdopen(int(terminal), "w", buffering=1)
    try:
        result = {"result": [_function(name)(**arguments)
                             for name, arguments in _read(folder, "jobs.json")]}
    except InputError as error:
        result = {"error": "input", "input_error": str(error)}
    except Exception:
        traceback.print_exc()  # to the log
        result = {"error": "other"}
    _write(folder, "result.json", result)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit("error" in result)  # not waiting for TensorFlow's threads


def _function(name):
    module, function = name.split(".")
    return getattr(importlib.import_module(f"effnet_tf.export.{module}"), function)
