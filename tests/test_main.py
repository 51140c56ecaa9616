"""__main__.py: one door to all programs, `python -m effnet_tf VERB`."""

import importlib
import pathlib
import resource
import subprocess
import sys

import pytest

from effnet_tf import __main__ as door
from effnet_tf import called

ROOT = pathlib.Path(__file__).parents[1]


def run(*words):
    """Runs the door; returns (exit code, what it printed, what it complained of)."""
    done = subprocess.run(
        [sys.executable, "-m", "effnet_tf", *words], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_help_has_a_line_for_every_verb_in_no_time():
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code, out, errors = run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert (code, errors) == (0, "") and min(seconds) < 0.2, seconds
    assert out.startswith("usage: python -m effnet_tf VERB")
    for name, verb in door.VERBS.items():
        assert f"  {name} " in out and f"  {verb.about}\n" in out
        assert len(verb.about) < 70


def test_help_imports_nothing_heavy():
    code = "import sys; from effnet_tf import __main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    found = {name.partition(".")[0] for name in done.stdout.split()}
    assert not found & {"tensorflow", "keras", "numpy", "absl", "train_tpu", "export"}


@pytest.mark.parametrize(
    "words, code, said",
    [
        ([], 2, "usage: python -m effnet_tf VERB"),
        (["exprot"], 2, "error: there is no verb 'exprot'. Did you mean export?\n"),
        (["plan", "--parms", "6M"], 2, "effnet_tf plan: error: there is no option --parms. Did"),
        (["export", "tflit"], 2, "effnet_tf export: error: argument PROGRAM: there is no 'tflit'"),
        (["plan", "--params", "1"], 2, "error: No network on the line"),
    ],
)
def test_a_mistake_is_told(words, code, said):
    found, out, errors = run(*words)
    assert (found, out if code == 2 and "params" not in str(words) else "") == (code, "")
    assert said in errors and "Traceback" not in errors


def test_a_verb_does_its_work():
    assert "b0-" in run("plan", "--params", "6M")[1]
    assert run("--version")[1].strip() == importlib.import_module("effnet_tf").__version__


@pytest.mark.parametrize("verb", door.VERBS)
def test_every_verb_has_a_program(verb, monkeypatch, capsys):
    """Its --help speaks of itself by the verb."""
    monkeypatch.setattr(sys, "argv", ["/x/effnet_tf/__main__.py", verb, "--help"])
    module = importlib.import_module(door._place(door.VERBS[verb].module))
    assert callable(module.main)
    with pytest.raises(SystemExit) as ended:
        module.parse([sys.argv[0], *door.VERBS[verb].words, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: python -m effnet_tf {verb} ")
    for other in ("python train_tpu.py", "python -m export", "effnet_tf.data", "effnet_tf.scaling"):
        assert other not in out


@pytest.mark.parametrize(
    "program, text, wanted",
    [
        ("/x/effnet_tf/__main__.py", "python train_tpu.py", "python -m effnet_tf train"),
        (
            "/x/effnet_tf/__main__.py",
            "python -m effnet_tf.scaling plan",
            "python -m effnet_tf plan",
        ),
        ("/x/effnet_tf/__main__.py", "python -m effnet_tf predict", "python -m effnet_tf predict"),
        ("/venv/bin/effnet", "python -m export tflite", "effnet export tflite"),
        ("/venv/bin/effnet", "python -m effnet_tf.data check", "effnet data check"),
        ("/venv/bin/effnet", "python -m effnet_tf predict", "effnet predict"),
        ("/venv/bin/effnet-train", "python -m effnet_tf predict", "effnet predict"),
        ("train_tpu.py", "python -m effnet_tf predict", "python -m effnet_tf predict"),
        ("/x/effnet_tf/data/__main__.py", "python -m effnet_tf.data", "python -m effnet_tf.data"),
    ],
)
def test_commands_are_called_as_they_are_typed(program, text, wanted, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.chdir(ROOT)
    assert called.as_called(text) == wanted


def test_an_installation_has_the_command():
    assert '"effnet = effnet_tf.__main__:console"' in (ROOT / "setup.py").read_text()
