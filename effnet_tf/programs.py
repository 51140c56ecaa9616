"""How does every program begin, and how does it end?

It begins with signals that are obeyed at once, before the imports that take seconds, and with
a terminal that names of files and classes cannot steer. It ends with an exit code, with one
sentence if it did not do its work, and without waiting for the threads of libraries.

    def main(options):              # returns an exit code, None for 0, or raises
        ...

    programs.run(main, parse)       # parse takes sys.argv; see command_line.py

Needs nothing but the standard library, and absl where a command line is parsed.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from effnet_tf import quiet, terminal
from effnet_tf.called import as_called as as_called
from effnet_tf.errors import FAULT, INTERRUPTED, NO_ACCESS, NOT_READ, TERMINATED, first_line, told


class Terminated(BaseException):
    """SIGTERM, as an exception like KeyboardInterrupt: half-written files are removed."""


def _nothing_was_written():
    return "nothing was written"


@dataclasses.dataclass
class _State:
    """What the signal handlers of this process know.

    Attributes:
        begun: whether this process is one of our programs.
        received: the first signal to end it, or None.
        at_once: whether nothing has to be undone: then a signal ends the process.
        last_words: function of nothing, a sentence on what an interruption leaves.
    """

    begun: bool = False
    received: int | None = None
    at_once: bool = False
    last_words: Callable[[], str] = _nothing_was_written


_state = _State()


# --- signals ----------------------------------------------------------------------------------


def on_signal(number: int, frame: object = None) -> None:
    """The handler of SIGINT and SIGTERM in all programs."""
    _state.received = _state.received or number
    if _state.at_once:
        end_now(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated


def end_now(number: int) -> NoReturn:
    """Ends the process for a signal, where nothing has to be undone."""
    print("\n" + _farewell(number), file=sys.stderr)
    leave(_code_of(number))


def _code_of(number):
    if number == signal.SIGINT:
        return INTERRUPTED
    return TERMINATED


def _farewell(number):
    what = "Interrupted" if number == signal.SIGINT else "Ended by SIGTERM"
    try:
        return f"{what}: {_state.last_words()}."
    except Exception as error:  # the disk or the network that it looks at
        return f"{what}; what it leaves could not be determined: {first_line(error)}."


def is_running() -> bool:
    """Whether this process is one of our programs: then it may be ended from within."""
    return _state.begun


@contextlib.contextmanager
def nothing_to_undo() -> Iterator[None]:
    """Where a signal may end the process at once, because nothing has been begun.

    While libraries are imported it must: an exception there may end in their own error
    handling. Without effect outside of our programs, such as in a notebook.
    """
    before, _state.at_once = _state.at_once, _state.begun
    try:
        yield
    finally:
        _state.at_once = before


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Where C++ may keep all of Python waiting for minutes: signals end a program by the kernel."""
    ours = [
        number
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) == on_signal
    ]
    for number in ours:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, on_signal)


def on_interruption(last_words: Callable[[], str]) -> None:
    """Sets the function that says what an interruption leaves behind, from now on."""
    _state.last_words = last_words


def written_files(*paths: str | None) -> Callable[[], str]:
    """Returns last words that say which files have been written since now, each of them whole.

    Args:
        *paths: of files that the program may write; None: of an option that nobody gave.
    """
    before = {path: state_of(path) for path in paths if path}

    def last_words():
        if not before:
            return "this program writes nothing"
        written = [path for path, state in before.items() if state_of(path) != state]
        if not written:
            return f"nothing was written to {' or '.join(before)}"
        return f"what was written is whole: {', '.join(written)}"

    return last_words


def goes_on_in(folder: str) -> Callable[[], str]:
    """Returns the last words of a search, which keeps in a folder what it has finished."""

    def last_words():
        if os.path.isdir(folder):
            return f"what was finished is in {folder}; the same command goes on there"
        return f"nothing was written to {folder}"

    return last_words


def state_of(path: str) -> tuple[int, int] | None:
    """Returns what changes when another file or folder takes a place; for last words."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


# --- beginning and end ------------------------------------------------------------------------


def run(
    program: Callable[..., int | None], parse: Callable[[list[str]], Any] | None = None
) -> NoReturn:
    """Runs a program from its first moment to its exit code, and ends the process.

    Args:
        program: function of what `parse` returns, or of nothing without `parse`; it returns an
            exit code, None for 0, or raises.
        parse: function of sys.argv, with a parser of command_line.py.
    """
    begin()
    try:
        code = _code(program, parse)
    except (KeyboardInterrupt, Terminated) as error:  # a second one, while the first was told
        code = _code_of(_number_of(error))
    except BrokenPipeError:
        code = _unread_or_fault()
    except BaseException:
        traceback.print_exc()
        code = FAULT
    leave(code)


def _code(program, parse):
    """Runs a program; returns its exit code, once a person has been told what it is for."""
    try:
        with sentences():
            if parse is None:
                sys.exit(program())
            _run_by_absl(program, parse)
    except SystemExit as stopped:
        code = stopped.code or 0
    if not isinstance(code, int):
        print(code, file=sys.stderr)
        return FAULT
    if _state.received is not None and not code:  # a library has swallowed it
        print("\nInterrupted too late: everything was already done.", file=sys.stderr)
        return _code_of(_state.received)
    return code


def _run_by_absl(program, parse):
    """Runs a program with what `parse` returns; absl takes its own flags, and ends it."""
    with nothing_to_undo():
        from absl import app
        from absl import logging as absl_logging

    def main(options):
        absl_logging.set_verbosity(absl_logging.WARNING)
        quiet.choose(getattr(options, "verbose", False))
        return program(options)

    app.run(main, flags_parser=parse)


def _number_of(error):
    """The signal that an exception stands for."""
    if isinstance(error, KeyboardInterrupt):
        return signal.SIGINT
    return signal.SIGTERM


def begin() -> None:
    """Prepares this process: its signals, its terminal, and TensorFlow's silence."""
    _state.begun = True
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    os.environ["KERAS_BACKEND"] = "tensorflow"  # of the networks; others may want another one
    terminal.guard()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it for others
            signal.signal(number, on_signal)


@contextlib.contextmanager
def sentences() -> Iterator[None]:
    """Turns what a person can help into one sentence and an exit code (SystemExit).

    An exception's `exit_code` says that it is of that kind.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        number = _number_of(error)
        print("\n" + _farewell(number), file=sys.stderr)
        sys.exit(_code_of(number))
    except BrokenPipeError:
        raise
    except Exception as error:
        if _state.received is not None:  # a library has made something else of it
            print("\n" + _farewell(_state.received), file=sys.stderr)
            sys.exit(_code_of(_state.received))
        code, sentence = told(error)
        if code is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)


def _unread_or_fault():
    """The exit code for a broken pipe: nobody reads what we print, or it is one of our own."""
    if any(getattr(stream, "unread", False) for stream in (sys.stdout, sys.stderr)):
        return NOT_READ
    traceback.print_exc()
    return FAULT


def leave(code: int) -> NoReturn:
    """Ends the process with what it has printed, but without waiting for anything else.

    Threads of libraries, and the taking apart of all that TensorFlow made, take from seconds to
    minutes. All files of ours are closed before.
    """
    if sys.getprofile() or sys.gettrace() or sys.flags.interactive or sys.flags.inspect:
        sys.exit(code)  # somebody looks on, who has work to do at exit
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or NOT_READ
        except OSError:  # a full disk: nobody can be told
            code = code or NO_ACCESS
    os._exit(code)
