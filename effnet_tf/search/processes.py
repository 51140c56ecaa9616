"""How is a function run in a process of its own, without seconds of imports each time?

A fork server imports what is slow once, TensorFlow above all, and computes nothing; then every
process is a fork of it, which takes milliseconds. What TensorFlow keeps, it keeps until its
process ends, and a crash ends one process only. For functions that write files, or open those of
strangers, see `effnet_tf.isolated`.
"""

import contextlib
import json
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.reduction
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from effnet_tf import quiet
from effnet_tf.errors import InputError, first_line
from effnet_tf.isolated import WorkerError

LINES_OF_LOG = 3  # of what libraries said last, in an error


class Running:
    """A function that runs in a process of its own."""

    def __init__(self, process: Any, answer: Any, log: Any):
        self._process, self._log = process, log
        self.answer = answer  # a connection, readable as soon as there is a result

    def result(self) -> Any:
        """Waits for what the function returns.

        Raises:
            InputError: it raised one.
            WorkerError: it raised something else, or its process has ended without an answer.
        """
        try:
            answer = json.loads(self.answer.recv())
        except EOFError:
            self._process.join()
            reason = self._how_it_ended()
            raise WorkerError(f"The process failed: {reason}.", reason) from None
        finally:
            self.end()
        if "result" in answer:
            return answer["result"]
        if "input_error" in answer:
            raise InputError(answer["input_error"])
        raise WorkerError(f"The process failed: {answer['error']}.", answer["error"])

    def end(self) -> None:
        """Ends the process, if it still runs."""
        self._process.kill()
        self._process.join()
        self.answer.close()
        self._log.close()

    def _how_it_ended(self):
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return "it was killed; was there enough memory?"
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        said = " / ".join(first_line(RuntimeError(line)) for line in lines[-LINES_OF_LOG:])
        if code < 0:
            return f"it crashed with {signal.Signals(-code).name} ({said})"
        return f"it ended with exit code {code} ({said})"


class ForkServer:
    """Starts functions in forks of one process.

    Args:
        preload: names of modules that it imports first.
    """

    def __init__(self, preload: Sequence[str] = ()):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))

    def start(self, function: Callable, *arguments: Any) -> Running:
        """Starts a function of a module; what it returns must be what JSON can hold.

        Args:
            function: found by its name in the other process.
            *arguments: that can be pickled.
        """
        _run_quietly()
        log = tempfile.TemporaryFile("w+", errors="replace")
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_main, args=(function, arguments, theirs, _Passed(log.fileno())), daemon=True
        )
        process.start()
        theirs.close()  # else nobody would hear that the other end is gone
        return Running(process, ours, log)


def _run_quietly():
    """Starts the server, if it does not run, without what libraries say when they are imported."""
    if quiet.is_verbose():
        multiprocessing.forkserver.ensure_running()
        return
    said, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        os.dup2(said, 2)
        os.close(said)
        os.close(nowhere)


class _Passed:
    """A file that a process takes along."""

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        return _received, (multiprocessing.reduction.DupFd(self.number),)


def _received(duplicate):
    return duplicate.detach()


def wait(running: Sequence[Running], seconds: float) -> list[Running]:
    """Waits for the first of some processes to answer or to end; returns all that have."""
    ready = multiprocessing.connection.wait([each.answer for each in running], seconds)
    return [each for each in running if each.answer in ready]


def _main(function, arguments, answer, log):
    """What the process does."""
    end_with_the_parent()
    # Ctrl-C goes to all processes of a terminal: our parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        result = {"result": function(*arguments)}
    except InputError as error:
        result = {"input_error": str(error)}
    except Exception as error:
        traceback.print_exc()  # to the log
        result = {"error": f"{type(error).__name__}: {first_line(error)}"}
    answer.send(json.dumps(result))
    answer.close()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(0)  # not waiting for TensorFlow's threads


def end_with_the_parent() -> None:
    """Has this process, which multiprocessing started, end when its parent has been killed."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end():
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
