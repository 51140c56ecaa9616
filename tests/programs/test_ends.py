"""programs.py: the terminal, signals and exit codes of every program; without TensorFlow."""

import io
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time

import pytest

from effnet_tf import programs, terminal
from effnet_tf.errors import NO_ACCESS, NOT_READ, InputError
from tests.helpers import hostile

ROOT = pathlib.Path(__file__).parents[2]


def guarded(encoding="utf-8", **how):
    """A guarded terminal, and the bytes behind it."""
    behind = io.BytesIO()
    return terminal.Terminal(io.TextIOWrapper(behind, encoding, newline=""), **how), behind


def written(text, encoding="utf-8", **how):
    """What reaches a terminal of a text."""
    stream, behind = guarded(encoding, **how)
    assert stream.write(text) == len(text)
    stream.flush()
    return behind.getvalue().decode(encoding)


class TestTerminal:
    @pytest.mark.parametrize("has_bars", [False, True])
    def test_no_name_steers_it(self, has_bars):
        text = "".join(f"class {name}\n" for name in (*hostile.NAMES, hostile.NOT_UTF8))
        shown = written(text, has_bars=has_bars)
        assert all(each.isprintable() or each in "\n\t" for each in shown)
        for expected in (
            "class grün\n",
            "class 日本語\n",
            "\\x1b[31mred",
            "bell\\x07",
            "tab\tbed",
            "carriage\\rreturn",
            "\\u202egnp.exe",
            "caf\\xe9",
        ):
            assert expected in shown

    def test_what_the_encoding_lacks_is_an_escape(self):
        for encoding in ("ascii", "latin-1", "cp1252"):
            shown = written("日本 \udce9", encoding)
            assert shown == "\\u65e5\\u672c \\xe9"
        assert written("grün", "latin-1") == "grün"

    def test_our_own_movements_work(self):
        movement = "\rstep 1\x1b[K"
        assert written(terminal.Movement(movement)) == movement
        assert written(movement) == "\\rstep 1\\x1b[K"

    def test_the_bars_of_tqdm_work(self):
        for text in ("\r  5%|#    | 1/20", "\n\n", "\x1b[A\x1b[A", "\n", "\r", ""):
            assert written(text, has_bars=True) == text
        assert written("\rReading a\x1b[2Jb\rc", has_bars=True) == "\rReading a\\x1b[2Jb\\rc"

    def test_is_a_stream_like_any_other(self, tmp_path):
        with open(tmp_path / "file", "w", encoding="utf-8") as file:
            stream = terminal.Terminal(file)
            print("a\x1bb", 3, file=stream, flush=True)
            assert stream.fileno() == file.fileno() and not stream.isatty()
            assert stream.encoding == "utf-8" and stream.writable() and stream.buffer is file.buffer
        assert (tmp_path / "file").read_text() == "a\\x1bb 3\n"


class TestSentences:
    def end(self, error):
        with pytest.raises(SystemExit) as stopped:
            with programs.sentences():
                raise error
        return stopped.value.code

    @pytest.mark.parametrize(
        "error, code, sentence",
        [
            (InputError("Give a name."), 2, "error: Give a name.\n"),
            (OSError(28, "No space left on device", "/x/y"), 74, "No space left on device: '/x/y'"),
            (ConnectionRefusedError(111, "Connection refused"), 74, "Connection refused"),
            (MemoryError(), 2, "There is not enough memory (MemoryError): try"),
            (KeyboardInterrupt(), 130, "Interrupted: nothing was written.\n"),
            (programs.Terminated(), 143, "Ended by SIGTERM: nothing was written.\n"),
        ],
    )
    def test_what_a_person_can_help(self, error, code, sentence, capsys, monkeypatch):
        monkeypatch.setattr(programs, "_state", programs._State())
        assert self.end(error) == code
        shown = capsys.readouterr().err
        assert sentence in shown and "Traceback" not in shown and "file'" not in shown

    def test_errors_of_tensorflow(self, capsys):
        import tensorflow as tf

        text = "{{function_node __wrapped__ReadFile_device_/job:localhost}} /no/such; No such file"
        assert self.end(tf.errors.NotFoundError(None, None, text + " [Op:ReadFile]")) == 74
        shown = capsys.readouterr().err
        assert "/no/such; No such file" in shown and "__wrapped__" not in shown
        for kind, message, code in (
            (tf.errors.ResourceExhaustedError, "OOM when allocating tensor", 2),
            (tf.errors.ResourceExhaustedError, "/x; No space left on device", 74),
            (tf.errors.UnimplementedError, "File system scheme 's3' not implemented", 74),
        ):
            assert self.end(kind(None, None, message)) == code
            assert message in capsys.readouterr().err
        with pytest.raises(tf.errors.InvalidArgumentError):  # a fault of ours keeps its traceback
            with programs.sentences():
                raise tf.errors.InvalidArgumentError(None, None, "shapes")

    def test_a_code_of_its_own(self):
        from effnet_tf import train
        from effnet_tf.runs import checkpoints
        from effnet_tf.train import interruption

        for kind, code in (
            (checkpoints.SaveError, 74),
            (checkpoints.NotFinite, 3),
            (train.TrainingStopped, 3),
            (interruption.Preempted, 75),
        ):
            assert self.end(kind("text")) == code

    def test_last_words_that_fail(self, monkeypatch, capsys):
        def last_words():
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(programs, "_state", programs._State())
        programs.on_interruption(last_words)
        assert self.end(KeyboardInterrupt()) == 130
        assert "what it leaves could not be determined: [Errno 5]" in capsys.readouterr().err


PROGRAM = """
import sys, threading, time, atexit
from effnet_tf import programs, terminal
from effnet_tf.errors import InputError
def program():
    {}
programs.run(program)
"""
# Neither a thread that never ends nor work at exit holds a program up.
HOLDS_UP = (
    "threading.Thread(target=time.sleep, args=(600,)).start(); atexit.register(time.sleep, 600); "
)


def start(code, **how):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(code)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **how,
    )


def signalled(code, number):
    """Sends a signal once the program says that it is ready; returns (exit code, stderr)."""
    process = start(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.parametrize(
    "code, expected, out, errors",
    [
        ("print('done')", 0, "done\n", ""),
        ("return 1", 1, "", ""),
        ("sys.exit('a sentence')", 1, "", "a sentence\n"),
        ("raise InputError('no')", 2, "", "error: no\n"),
        ("1 / 0", 1, "", "ZeroDivisionError"),
        ("print('\\x1b[31m')", 0, "\\x1b[31m\n", ""),
    ],
)
def test_leaves_with_all_it_has_printed(code, expected, out, errors):
    process = start(HOLDS_UP + code)
    shown = process.communicate(timeout=120)
    assert process.returncode == expected
    assert shown[0] == out and errors in shown[1]


@pytest.mark.parametrize(
    "number, expected, word",
    [
        (signal.SIGINT, 130, "Interrupted: nothing was written."),
        (signal.SIGTERM, 143, "Ended by SIGTERM: nothing was written."),
    ],
)
@pytest.mark.parametrize(
    "code",
    [
        "print('ready', flush=True); time.sleep(600)",
        # As TensorFlow's import does: the interruption is swallowed, or becomes another error.
        """
    with programs.nothing_to_undo():
        try:
            print('ready', flush=True); time.sleep(600)
        except BaseException:
            pass
    print('went on')
    """,
        """
    try:
        print('ready', flush=True); time.sleep(600)
    except BaseException:
        raise ImportError('initialisation failed') from None
    """,
    ],
)
def test_signals(code, number, expected, word):
    found, errors = signalled(HOLDS_UP + code, number)
    assert found == expected
    assert errors == f"\n{word}\n"


def test_a_signal_that_a_library_swallows():
    code = """
    try:
        print('ready', flush=True); time.sleep(600)
    except BaseException:
        pass
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        assert signalled(code, number) == (
            128 + number,
            "\nInterrupted too late: everything was already done.\n",
        )


PARSED = """
import sys, time
from absl.flags import argparse_flags
from effnet_tf import programs
from effnet_tf.errors import InputError
def parse(argv):
    parser = argparse_flags.ArgumentParser(prog="it")
    parser.add_argument("--number", type=int, default=0)
    return parser.parse_args(argv[1:])
def program(options):
    {}
programs.run(program, parse)
"""


@pytest.mark.parametrize(
    "code, arguments, expected, out, errors",
    [
        ("print(options.number)", ["--number", "3"], 0, "3\n", ""),
        ("return options.number", ["--number", "3"], 3, "", ""),
        ("print('done')", ["--number", "three"], 2, "", "it: error: argument --number: invalid"),
        ("print(options.number)", ["--verbosity", "1"], 0, "0\n", ""),  # a flag of absl's
        ("raise InputError('no')", [], 2, "", "error: no\n"),
        ("sys.exit('a sentence')", [], 1, "", "a sentence\n"),
        ("1 / 0", [], 1, "", "ZeroDivisionError"),
    ],
)
def test_a_program_with_a_command_line(code, arguments, expected, out, errors):
    done = subprocess.run(
        [sys.executable, "-c", PARSED.format(code), *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (expected, out) and errors in done.stderr


def test_signals_of_a_program_with_a_command_line():
    for ready, word in (
        ("print('ready', flush=True); time.sleep(600)", "Interrupted: nothing was written."),
        (
            """try: print('ready', flush=True); time.sleep(600)
    except BaseException: pass""",
            "Interrupted too late: everything was already done.",
        ),
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", PARSED.format(ready)],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (130, f"\n{word}\n")


def test_half_written_files_are_removed(tmp_path):
    code = (
        f"import tempfile; folder = tempfile.TemporaryDirectory(dir={str(tmp_path)!r})\n"
        "    with folder: print('ready', flush=True); time.sleep(600)"
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        assert signalled(code, number)[0] == 128 + number
        assert os.listdir(tmp_path) == []


def test_a_pipe_that_nobody_reads():
    process = start("print('ready', flush=True)\n    while True: print('x' * 1000)")
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == NOT_READ and process.stderr.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_output_that_finds_no_room():
    for code in ("print('x')", "print('x' * 100_000)"):
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                [sys.executable, "-c", PROGRAM.format(code)],
                cwd=ROOT,
                text=True,
                stdout=full,
                stderr=subprocess.PIPE,
            )
        assert process.returncode == NO_ACCESS and "Traceback" not in process.stderr


def test_a_signal_while_python_cannot_hear_it():
    """Then the kernel ends the program: a shell says 130 or 143 as well."""
    code = """
    import ctypes
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)
    with programs.unheard():
        print('ready', flush=True)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        assert signalled(code, number) == (-number, "")


def test_terminals_that_are_closed_or_know_no_unicode():
    for redirection in (">&-", "2>&-", ">&- 2>&-", "</dev/null"):
        command = f'{shlex.quote(sys.executable)} -c "$CODE" {redirection}'
        code = PROGRAM.format(
            r"print('gr\xfcn \x1b \u65e5\u672c \udce9', sys.stdout.isatty()); sys.exit(3)"
        )
        environment = {
            **os.environ,
            "CODE": code,
            "LC_ALL": "C",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONUTF8": "0",
            "PYTHONIOENCODING": "",
        }
        done = subprocess.run(
            ["sh", "-c", command], cwd=ROOT, env=environment, text=True, capture_output=True
        )
        assert done.returncode == 3 and done.stderr == ""
        if redirection == "</dev/null":
            assert done.stdout == "gr\\xfcn \\x1b \\u65e5\\u672c \\xe9 False\n"


def test_nohup_keeps_its_promise():
    """A signal that was ignored from the start stays so."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('done')"
    process = start(code, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process.communicate(timeout=120)[0] == "done\n" and process.returncode == 0


class TestNames:
    @pytest.mark.parametrize(
        "program, installed",
        [
            ("train_tpu.py", False),
            ("/x/export/__main__.py", False),
            ("/venv/bin/effnet-train", True),
            ("/venv/bin/effnet-export", True),
            ("/site/effnet_export/__main__.py", True),
            ("notebook", True),
        ],
    )
    def test_as_called(self, program, installed, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "argv", [program])
        monkeypatch.chdir(tmp_path)  # no checkout
        text = "python train_tpu.py --workdir x, python -m export tflite, python -m effnet_tf.data"
        wanted = "effnet-train --workdir x, effnet-export tflite, python -m effnet_tf.data"
        assert programs.as_called(text) == (wanted if installed else text)

    def test_in_a_checkout(self, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["notebook"])
        monkeypatch.chdir(ROOT)
        assert programs.as_called("python -m export") == "python -m export"


def test_nothing_changes_for_who_imports_it():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert programs.on_signal not in handlers and not programs.is_running()
    with programs.nothing_to_undo():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)


def test_a_sentence_that_says_more_is_not_replaced_by_its_cause(capsys):
    with pytest.raises(SystemExit), programs.sentences():
        try:
            raise InputError("it is empty")
        except InputError as error:
            raise InputError(f"'a.csv' cannot be read: {error}.") from error
    assert capsys.readouterr().err == "error: 'a.csv' cannot be read: it is empty.\n"
