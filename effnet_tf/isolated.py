"""What is done in a process of its own?

TensorFlow's converter keeps 100 to 300 MB per conversion, a file is checked where nothing is
left of what wrote it, and a damaged file may kill who opens it. `call` runs functions in
a new Python, with a folder between both: jobs.json has the jobs and their arguments,
result.json the answers, and log what libraries say.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

from effnet_tf import quiet
from effnet_tf.errors import FAULT, InputError, SaveError, first_line
from effnet_tf.terminal import Terminal

# It ends when the process that started it was killed, from the first moment on.
_MAIN = """
import os, sys, threading, time
def watch(parent=int(sys.argv[1])):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
threading.Thread(target=watch, daemon=True).start()
from effnet_tf import isolated
isolated.main(*sys.argv[2:])
"""
# A library that ends the process writes its reason to the log; so much of it is shown.
LINES_OF_LOG = 3
# A file that has not been opened, or an image not been answered, after so many seconds never
# will be; the largest networks take two minutes on slow processors.
SILENCE = 600.0


class _Progress:
    """Where a job tells a person how far it is: None, or the terminal of `call`'s process."""

    terminal: Any = None  # a Terminal, which tqdm takes for a file


progress = _Progress()


class WorkerError(RuntimeError):
    """A process of its own failed; `reason` says how in a few words."""

    exit_code = FAULT

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def call(
    *jobs: tuple[Callable, dict],
    shown: bool = False,
    silence: float | None = None,
    reads: bool = False,
) -> list:
    """Runs functions in a new process, one after the other; returns their results.

    Args:
        *jobs: pairs of a function of a module that can be imported, and a dict of its
            arguments: what JSON can hold, paths for the rest.
        shown: whether what they print appears here, line by line.
        silence: seconds without a printed line, or without an end, after which the process
            is killed; None: never.
        reads: whether standard input is theirs.

    Raises:
        InputError: a job raised one.
        SaveError: a job raised one.
        WorkerError: it failed otherwise, or was killed.
    """
    named = [(_name(function), arguments) for function, arguments in jobs]
    with tempfile.TemporaryDirectory() as folder:
        _write(folder, "jobs.json", named)
        code = _run(folder, shown, silence, reads)
        result = _read(folder, "result.json")
        if code == 0 and "result" in result:
            return result["result"]
        if "input_error" in result:
            raise InputError(result["input_error"])
        if "save_error" in result:
            raise SaveError(result["save_error"])
        reason = result.get("error") or _reason(code, silence) + _end_of_log(folder)
        names = ", ".join(name.rpartition(":")[2] for name, _ in named)
        raise WorkerError(f"The process ({names}) failed: {reason}.", reason)


def _run(folder, shown, silence, reads):
    """Runs the jobs in a folder; returns the exit code, or None: killed because of silence."""
    terminal, (reader, writer) = os.dup(2), os.pipe()
    shown_on = ""
    if shown:
        shown_on = str(writer)
    try:
        process = _start(folder, [str(terminal), shown_on], [terminal, writer], reads)
    finally:
        os.close(terminal)
        os.close(writer)
    try:
        if _relay(reader, silence):
            return process.wait(silence)
        return None
    except subprocess.TimeoutExpired:
        return None
    finally:
        os.close(reader)
        if process.poll() is None:
            process.kill()
            process.wait()


def _start(folder, arguments, files, reads):
    """Returns the new process; what it says beside its results goes to the folder's log."""
    stdin = subprocess.DEVNULL
    if reads:
        stdin = None  # that of this process
    with open(os.path.join(folder, "log"), "w") as log:
        says: Any = log
        if quiet.is_verbose():
            says = None  # of this process: a person wants to see it
        return subprocess.Popen(
            # -P: nothing is imported from where the user happens to be.
            [sys.executable, "-P", "-c", _MAIN, str(os.getpid()), folder, *arguments],
            stdout=log,
            stderr=says,
            stdin=stdin,
            pass_fds=files,
            env=_environment(),
        )


def _environment():
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    inherited = {**os.environ, "PYTHONPATH": path}
    if quiet.is_verbose():
        return inherited
    return {**inherited, quiet.LEVEL: quiet.OURS}


def _relay(reader, silence):
    """Prints the lines that come through a pipe until it is closed; returns whether it was."""
    waiting = b""
    while select.select([reader], [], [], silence)[0]:
        part = os.read(reader, 1 << 16)
        if not part:
            return True
        *lines, waiting = (waiting + part).split(b"\n")
        for line in lines:
            print(line.decode("utf-8", "backslashreplace"), flush=True)
    return False


def _reason(code, silence):
    if code is None:
        return f"no answer for {silence:g} seconds"
    if code == -signal.SIGKILL:
        return "it was killed; was there enough memory?"
    if code < 0:
        return f"it crashed with {signal.Signals(-code).name}"
    return f"it ended with exit code {code}"


def _end_of_log(folder):
    """Returns the last lines that libraries wrote, in brackets, without their internals."""
    with open(os.path.join(folder, "log"), "rb") as file:
        lines = [line for line in file if line.strip() and not quiet.NOISE.match(line)]
    if not lines:
        return ""
    last = [line.decode("utf-8", "replace") for line in lines[-LINES_OF_LOG:]]
    cleaned = [first_line(RuntimeError(line)) for line in last]
    more = ""
    if len(lines) > LINES_OF_LOG:
        more = f"; {quiet.VERBOSE}=1 shows all of them"
    return f" (its last words: {' / '.join(cleaned)}{more})"


def _write(folder, name, value):
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file)


def _read(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def main(folder: str, terminal: str, shown: str) -> None:
    """Does the jobs of a folder; progress goes to a file number, all else to the log.

    Args:
        folder: with jobs.json.
        terminal: the file number of the terminal.
        shown: the file number that takes what the jobs print, or "": the log.
    """
    progress.terminal = Terminal(os.fdopen(int(terminal), "w", buffering=1), has_bars=True)
    if shown:
        # Names and paths of any bytes pass between the processes.
        sys.stdout = os.fdopen(
            int(shown), "w", buffering=1, encoding="utf-8", errors="surrogateescape"
        )
    result: dict[str, object]
    try:
        result = {
            "result": [
                _function(name)(**arguments) for name, arguments in _read(folder, "jobs.json")
            ]
        }
    except InputError as error:
        result = {"input_error": str(error)}
    except SaveError as error:
        result = {"save_error": str(error)}
    except Exception as error:
        traceback.print_exc()  # to the log
        result = {"error": f"{type(error).__name__}: {first_line(error)}"}
    _write(folder, "unfinished.json", result)
    os.rename(os.path.join(folder, "unfinished.json"), os.path.join(folder, "result.json"))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit("result" not in result)  # not waiting for TensorFlow's threads


def _name(function):
    return f"{function.__module__}:{function.__qualname__}"


def _function(name):
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)
