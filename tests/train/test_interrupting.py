"""Ctrl-C and SIGTERM at any moment of the programs: exit code, a true sentence, what is left."""

import itertools
import os
import pathlib
import signal
import subprocess
import sys

import keras
import pytest
import tensorflow as tf

from effnet_tf import programs as programs_lib
from effnet_tf.train import interruption
from export import __main__ as programs
from tests.helpers import processes
from tests.helpers.clock import LEAVING, Clock
from tests.helpers.same_runs import assert_equal_runs
from tests.train.test_faults import assert_tidy, whole  # noqa: F401 (a fixture)

ROOT = pathlib.Path(__file__).parents[2]
SAVED = "Interrupted: the same command goes on from the newest checkpoint."
NOT_SAVED = "Interrupted: no step had been saved; the same command starts anew."


class TestWhileTensorFlowIsImported:
    """In processes that really import it; its import swallows KeyboardInterrupt."""

    @pytest.mark.parametrize(
        "number, marker, program, sentence",
        [
            (
                signal.SIGINT,
                "tensorflow.python.framework.ops",
                ["train_tpu.py", "--recipe", "smoke", "--workdir", "{tmp}/run"],
                "Interrupted: nothing was written.",
            ),
            pytest.param(
                signal.SIGTERM,
                "tensorflow.python.pywrap_tensorflow",
                ["train_tpu.py", "--recipe", "smoke", "--dry_run"],
                "Ended by SIGTERM: nothing was written.",
                marks=pytest.mark.slow,
            ),
            pytest.param(
                signal.SIGINT,
                "tensorflow.python.eager.context",
                ["-m", "export", "inspect", "x"],
                "Interrupted: this program writes nothing.",
                marks=pytest.mark.slow,
            ),
            (
                signal.SIGTERM,
                "keras.src.backend",
                ["-m", "export", "tflite", "--workdir", "x", "--out", "{tmp}/x.tflite"],
                "Ended by SIGTERM: nothing was written to {tmp}/x.tflite.",
            ),
            (
                signal.SIGINT,
                "tensorflow.python.framework.dtypes",
                ["-m", "effnet_tf.data", "check", "--dataset", "digits", "--out", "{tmp}/report"],
                "Interrupted: no report was written to {tmp}/report.",
            ),
        ],
    )
    def test_ends_at_once(self, number, marker, program, sentence, tmp_path):
        command = [
            sys.executable,
            "-X",
            "importtime",
            *(word.format(tmp=tmp_path) for word in program),
        ]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for line in process.stderr:  # one for each module, once it is imported
            if line.strip().endswith(marker):
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        said = [line for line in errors.splitlines() if not line.startswith("import time:")]
        assert said == ["", sentence.format(tmp=tmp_path)]
        assert process.returncode == 128 + number
        assert os.listdir(tmp_path) == []


class TestLastWords:
    """Of the export programs: true at whatever moment they are asked."""

    def test_of_a_file(self, tmp_path):
        out = tmp_path / "m.tflite"
        options = programs.parse(["export", "tflite", "--workdir", "x", "--out", str(out)])
        for _ in range(2):  # of a new file, and of one that takes the place of another
            last_words = programs._last_words(options)
            assert last_words() == f"nothing was written to {out}"
            (tmp_path / "new").write_text("new")
            os.replace(tmp_path / "new", out)
            assert last_words() == (
                f"{out} had been written and is whole; the report beside it may be missing"
            )

    def test_of_a_picture(self, tmp_path):
        picture = tmp_path / "p.png"
        options = programs.parse(["export", "classify", "x", "y", "--picture", str(picture)])
        last_words = programs._last_words(options)
        assert last_words() == f"nothing was written to {picture}"
        picture.write_text("half")
        assert last_words() == f"{picture} had been drawn and is whole"

    def test_of_none(self):
        for words in (["inspect", "x"], ["bench", "x"], ["classify", "x", "y"]):
            options = programs.parse(["export", *words])
            assert programs._last_words(options)() == "this program writes nothing"


class TestTraining:
    @pytest.mark.parametrize("place", ["source", "build", "snapshot"])
    def test_before_anything_is_saved(self, tmp_path, place):
        code, out = processes.run(tmp_path / "run", place=(place, 1, True, signal.SIGINT))
        assert code == 130 and "Traceback" not in out
        assert out.splitlines()[-1] == NOT_SAVED
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        "place, number, after",
        [
            ("tensors", 4, True),
            *(
                pytest.param(*each, marks=pytest.mark.slow)
                for each in itertools.product(
                    ("steps", "manifest", "sweep", "evaluation", "rename"), (1, 4), (False, True)
                )
            ),
        ],
    )
    def test_goes_on_as_if_never_stopped(self, whole, tmp_path, place, number, after):  # noqa: F811
        workdir = tmp_path / "run"
        code, out = processes.run(workdir, place=(place, number, after, signal.SIGINT))
        assert code == 130 and "Traceback" not in out
        assert out.splitlines()[-1] == (SAVED if workdir.exists() else NOT_SAVED)
        assert_tidy(workdir)
        assert processes.run(workdir)[0] == 0
        assert_equal_runs(workdir, whole)

    def test_leaves_a_long_loop_after_the_step_in_flight(self, tmp_path):
        process, log = processes.start(tmp_path / "run", *processes.LONG_LOOP)
        processes.wait_for(log, "epoch 1/400")
        os.kill(process.pid, signal.SIGINT)
        process.join(200)
        out = open(log).read()
        assert process.exitcode == 130 and "epoch 400/400" not in out
        assert out.splitlines()[-1] in (SAVED, NOT_SAVED)

    @pytest.mark.parametrize("place", ["source", "text"])
    def test_sigterm_before_the_run_begins(self, tmp_path, place):
        code, out = processes.run(tmp_path / "run", place=(place, 1, False, signal.SIGTERM))
        assert code == 143 and "Ended by SIGTERM: no" in out.splitlines()[-1]
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize("place", ["build", "snapshot", "tensors"])
    def test_sigterm_before_the_first_step(self, tmp_path, place):
        code, out = processes.run(tmp_path / "run", place=(place, 1, False, signal.SIGTERM))
        assert code == 75 and "No step was made before the notice (SIGTERM)" in out
        assert not (tmp_path / "run").exists()

    def test_a_compilation_that_does_not_end(self, tmp_path):
        """As C++ does, the first step or evaluation does not let signals through."""
        for number, code, stuck in (
            (signal.SIGINT, 130, "training"),
            (signal.SIGTERM, 75, "training"),
            (signal.SIGINT, 130, "evaluation"),
        ):
            workdir = tmp_path / f"{code}{stuck}"
            process, log = processes.start(workdir, "--checkpoint_every", "none", stuck=stuck)
            processes.wait_for(log, "stuck")
            (workdir / "mine").write_text("mine")
            os.kill(process.pid, number)
            process.join(200)
            out = open(log).read()
            assert process.exitcode == code
            assert "No step was made" in out if code == 75 else NOT_SAVED in out
            assert os.listdir(workdir) == ["mine"]  # nothing else is left

    def test_the_last_line_is_the_end(self, tmp_path):
        """It leaves then, whatever threads TensorFlow still has."""
        process, log = processes.start(tmp_path / "run", "--epochs", "1")
        with Clock() as clock:
            size, last = 0, 0.0
            while process.is_alive():
                process.join(0.05)
                if os.path.getsize(log) > size:
                    size, last = os.path.getsize(log), clock.seconds
            assert process.exitcode == 0 and clock.seconds - last < LEAVING


@pytest.mark.parametrize("traced", [False, True])
def test_a_sentence_from_within_a_layer_is_told_as_it_was_raised(traced, capsys):
    """As of a signal that comes while Keras traces the first step."""

    class Layer(keras.layers.Layer):
        def call(self, inputs):
            raise interruption.Preempted("No step was made: run the same command again.")

    call = tf.function(Layer()) if traced else Layer()
    with pytest.raises(SystemExit) as stopped, programs_lib.sentences():
        call(tf.ones((1, 2)))
    assert stopped.value.code == 75
    assert capsys.readouterr().err == "error: No step was made: run the same command again.\n"
