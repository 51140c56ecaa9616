"""How does every program begin, and how does it end?

It begins with signals that are obeyed at once, before the imports that take seconds, and with
a terminal that names of files and classes cannot steer. It ends with an exit code, with one
sentence if it did not do its work, and without waiting for the threads of libraries.

Needs nothing but the standard library.
"""

import contextlib
import os
import signal
import sys
import traceback

from effnet_tf import terminal
from effnet_tf.errors import (
    BAD_INPUT,
    FAULT,
    INTERRUPTED,
    NO_ACCESS,
    NOT_READ,
    TERMINATED,
    first_line,
)

# How the README, written in a checkout, calls what an installation calls otherwise.
INSTALLED = {"python train_tpu.py": "effnet-train", "python -m export": "effnet-export"}


class Terminated(BaseException):
    """SIGTERM, as an exception like KeyboardInterrupt: half-written files are removed."""


class _State:
    """What the signal handlers of this process know.

    Attributes:
        begun: whether this process is one of our programs.
        received: the first signal to end it, or None.
        at_once: whether nothing has to be undone: then a signal ends the process.
        last_words: function of nothing, a sentence on what an interruption leaves.
    """

    begun, received, at_once = False, None, False

    @staticmethod
    def last_words():
        return "nothing was written"


_state = _State()


# --- names ------------------------------------------------------------------------------------


def as_called(text: str) -> str:
    """Returns a text of the README's commands, as they are typed where this program runs.

    `python -m export` and `python train_tpu.py` need a checkout; an installation has
    `effnet-export` and `effnet-train`.
    """
    if _is_installed():
        for here, installed in INSTALLED.items():
            text = text.replace(here, installed)
    return text


def _is_installed():
    folder, program = os.path.split(sys.argv[0])
    if program.startswith("effnet-"):
        return True
    if program == "train_tpu.py" or (program, os.path.basename(folder)) == (
        "__main__.py",
        "export",
    ):
        return False
    return not os.path.exists("train_tpu.py")  # another program of ours, or a notebook


# --- signals ----------------------------------------------------------------------------------


def on_signal(number: int, frame=None):
    """The handler of SIGINT and SIGTERM in all programs."""
    _state.received = _state.received or number
    if _state.at_once:
        end_now(number)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def end_now(number: int):
    """Ends the process for a signal, where nothing has to be undone."""
    print("\n" + _farewell(number), file=sys.stderr)
    leave(_code_of(number))


def _code_of(number):
    return INTERRUPTED if number == signal.SIGINT else TERMINATED


def _farewell(number):
    what = "Interrupted" if number == signal.SIGINT else "Ended by SIGTERM"
    try:
        return f"{what}: {_state.last_words()}."
    except Exception as error:  # the disk or the network that it looks at
        return f"{what}; what is left cannot be seen: {first_line(error)}."


def is_running() -> bool:
    """Whether this process is one of our programs: then it may be ended from within."""
    return _state.begun


@contextlib.contextmanager
def nothing_to_undo():
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
def unheard():
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


def on_interruption(last_words):
    """Sets the function that says what an interruption leaves behind, from now on."""
    _state.last_words = last_words


def state_of(path: str):
    """What changes when another file or folder takes a place; for a function of last words."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


# --- beginning and end ------------------------------------------------------------------------


def run(program):
    """Runs a program from its first moment to its exit code, and ends the process.

    Args:
        program: function of nothing; it returns an exit code, None for 0, or raises.
    """
    begin()
    try:
        with sentences():
            code = program()
            if _state.received is not None and not code:  # a library has swallowed it
                print("\nInterrupted, but too late: all was done.", file=sys.stderr)
                code = _code_of(_state.received)
    except SystemExit as stopped:
        code = stopped.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = FAULT
    except (KeyboardInterrupt, Terminated) as error:  # a second one, while the first was told
        code = INTERRUPTED if isinstance(error, KeyboardInterrupt) else TERMINATED
    except BrokenPipeError:
        code = NOT_READ if _is_unread() else _fault()
    except BaseException:
        code = _fault()
    leave(code or 0)


def begin():
    """Prepares this process: its signals, its terminal, and TensorFlow's silence."""
    _state.begun = True
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    os.environ["KERAS_BACKEND"] = "tensorflow"  # of the networks; others may want another one
    terminal.guard()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it for others
            signal.signal(number, on_signal)


@contextlib.contextmanager
def sentences():
    """Turns what a person can help into one sentence and an exit code (SystemExit).

    An exception's `exit_code` says that it is of that kind.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        is_sigint = isinstance(error, KeyboardInterrupt)
        number = signal.SIGINT if is_sigint else signal.SIGTERM
        print("\n" + _farewell(number), file=sys.stderr)
        sys.exit(_code_of(number))
    except BrokenPipeError:
        raise
    except Exception as error:
        if _state.received is not None:  # a library has made something else of it
            print("\n" + _farewell(_state.received), file=sys.stderr)
            sys.exit(_code_of(_state.received))
        code, sentence = _told(error)
        if code is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(code)


def _told(error):
    """Returns (exit code, sentence) of an exception; (None, None) if it is a fault of ours."""
    error = _first_raised(error)
    if hasattr(error, "exit_code"):
        return error.exit_code, str(error)
    if _is_want_of_memory(error):
        return BAD_INPUT, (
            f"There is not enough memory ({first_line(error)}): try a smaller "
            "batch or image size, or another machine."
        )
    if isinstance(error, OSError) and error.strerror:
        place = f": '{error.filename}'" if error.filename else ""
        return NO_ACCESS, f"A file, a disk or the network failed: {error.strerror}{place}."
    if _is_of_the_world(error):
        return NO_ACCESS, f"A file, a disk or the network failed: {first_line(error)}."
    return None, None


def _first_raised(error):
    """What was raised first: Keras and autograph raise it again with what they know of it."""
    again = ("Exception encountered when calling", "in user code:")
    while str(error).startswith(again) and isinstance(error.__context__, type(error)):
        error = error.__context__
    return error


def _is_want_of_memory(error):
    if isinstance(error, MemoryError):
        return True
    errors = _errors_of_tensorflow()
    return (
        errors is not None
        and isinstance(error, errors.ResourceExhaustedError)
        and "OOM" in str(error)
    )


def _is_of_the_world(error):
    """Whether disks, networks or permissions cause an error, not our code."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    errors = _errors_of_tensorflow()
    if errors is None:
        return False
    if isinstance(error, errors.UnimplementedError):
        return "File system scheme" in str(error)  # such as s3://
    return isinstance(
        error,
        (
            errors.NotFoundError,
            errors.PermissionDeniedError,
            errors.UnauthenticatedError,
            errors.UnavailableError,
            errors.ResourceExhaustedError,
            errors.DeadlineExceededError,
            errors.DataLossError,
            errors.AbortedError,
        ),
    )


def _errors_of_tensorflow():
    """Returns tf.errors, None as long as TensorFlow is not there: then it is none of them."""
    return getattr(sys.modules.get("tensorflow"), "errors", None)


def _is_unread():
    return any(getattr(stream, "unread", False) for stream in (sys.stdout, sys.stderr))


def _fault():
    traceback.print_exc()
    return FAULT


def leave(code: int):
    """Ends the process with what it has printed, but without waiting for anything else.

    Threads of libraries, and the taking apart of all that TensorFlow made, take from seconds to
    minutes. All files of ours are closed before.
    """
    if sys.getprofile() or sys.gettrace() or sys.flags.interactive or sys.flags.inspect:
        sys.exit(code)  # somebody looks on, who has work to do at exit
    logging = sys.modules.get("logging")
    if logging:
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            code = code or NOT_READ
        except OSError:  # a full disk: nobody can be told
            code = code or NO_ACCESS
    os._exit(code)
