"""The commands a person types: train, export, classify; and what bad input gets them."""

import concurrent.futures
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time

import keras
import pytest
import tensorflow as tf

import effnet_tf
import train_tpu
from effnet_tf import programs
from effnet_tf.export import staging
from export import __main__ as export
from tests import conftest
from tests.helpers import tiny_dataset
from tests.helpers.clock import LEAVING, Clock
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

ROOT = pathlib.Path(__file__).parents[2]
QUICK = ("--recipe", "smoke", "--epochs", "1", "--batch_size", "8", "--holdout", "0.3")
# Long enough to tell the images apart: else rounding is as large as what the network says.
LONGER = (*QUICK, "--epochs", "8", "--batch_size", "4", "--ema_decay", "0.5")
TINY = (*QUICK, "--variant", "tiny", "--phi", "none")  # in this process alone


def python(*arguments, check=True):
    """Runs a program of the repository as a user would; returns the finished process.

    It must end soon after its last line.
    """
    process = subprocess.Popen(
        [sys.executable, "-u", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    with concurrent.futures.ThreadPoolExecutor(2) as readers, Clock() as clock:
        streams = (process.stdout, process.stderr)
        read = [readers.submit(_read, stream, clock) for stream in streams]
        (out, said), (errors, complained) = [each.result() for each in read]
        process.wait()
        left = clock.seconds - max(said, complained)
    finished = subprocess.CompletedProcess(process.args, process.returncode, out, errors)
    if check:
        assert finished.returncode == 0, finished.stderr[-3000:]
    assert left < LEAVING, f"left {left:.1f} s after its last line:\n{out[-500:]}{errors[-500:]}"
    return finished


def _read(stream, clock):
    """Returns all that a stream gives, and when its last line came."""
    lines, last = [], clock.seconds
    with stream:
        for line in stream:
            lines.append(line)
            last = clock.seconds
    return "".join(lines), last


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on a folder of photos, by the program: (photos, workdir)."""
    root = tmp_path_factory.mktemp("programs")
    photos = conftest.write_photos(root / "photos")
    python(
        "train_tpu.py",
        *LONGER,
        "--dataset",
        "folder",
        "--data_dir",
        photos,
        "--workdir",
        root / "run",
    )
    return photos, root / "run"


class TestTheMainPath:
    def test_trains_on_a_folder(self, run):
        result = json.loads((run[1] / "result.json").read_text())
        assert result["epoch"] == 8 and 0 <= result["eval_accuracy"] <= 1
        assert json.loads((run[1] / "classes.json").read_text()) == ["cat", "dog"]

    def test_exports_and_classifies(self, run, tmp_path):
        photos, workdir = run
        model = workdir / "model.tflite"
        out = python("-m", "export", "tflite", "--workdir", workdir, "--out", model).stdout
        assert "largest difference" in out and "averaged weights" in out
        report = json.loads((workdir / "model.tflite.report.json").read_text())
        assert report["class_names"] == ["cat", "dog"] and report["image_size"] == 32
        out = python(
            "-m",
            "export",
            "classify",
            model,
            photos / "cat" / "0.jpg",
            photos / "dog" / "1.png",
            "--picture",
            tmp_path / "p.png",
        ).stdout
        assert len([line for line in out.splitlines() if "cat" in line and "dog" in line]) == 2
        assert tf.io.decode_png((tmp_path / "p.png").read_bytes()).shape[0] > 100

    @pytest.mark.usefixtures("in_this_process")
    def test_exports_a_saved_model_and_classifies_held_out_images(self, run, capfd):
        workdir = run[1]
        export_here("saved_model", "--workdir", workdir, "--out", workdir / "saved")
        export_here("classify", workdir / "saved", "--workdir", workdir, "--count", "3")
        out = capfd.readouterr().out
        assert "held-out 3, really" in out and "of 3 right" in out

    def test_resumes_with_the_same_command(self, run, capsys):
        photos, workdir = run
        train_here(*LONGER, "--dataset", "folder", "--data_dir", photos, "--workdir", workdir)
        assert "Resumed from" in capsys.readouterr().out

    @pytest.mark.usefixtures("tiny_variants", "without_the_picture")
    def test_trains_on_a_tfds_data_set(self, tmp_path, capsys):
        tiny_dataset.write(tmp_path / "tfds")
        train_here(
            *TINY,
            "--dataset",
            "tiny_colours",
            "--data_dir",
            tmp_path / "tfds",
            "--workdir",
            tmp_path / "run",
        )
        out = capsys.readouterr().out
        assert "TFDS tiny_colours/1.0.0" in out and "Done:" in out
        assert json.loads((tmp_path / "run" / "classes.json").read_text()) == [
            "red",
            "green",
            "blue",
        ]


def train_here(*arguments):
    """Runs train_tpu.py in this process, which has TensorFlow already."""
    with programs.sentences():
        train_tpu.main(train_tpu.parse(["train_tpu.py", *map(str, arguments)]))


def refused(capsys, program, *arguments):
    """Runs a program in this process that must refuse its input; returns the sentence."""
    with pytest.raises(SystemExit) as stopped:
        program(*arguments)
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


class TestBadInput:
    """One clear sentence, exit code 2, no traceback, and nothing left behind."""

    @pytest.mark.parametrize(
        "options, message",
        [
            (["--variant", "b33"], "no variant 'b33'. Did you mean b3"),
            (["--image_size", "31"], "An input of 31 pixels is too small"),
            (["--phi", "-20"], "without filters"),
            (["--epochs", "0"], "epochs is 0"),
            (["--dataset", "cifr10"], "no data set 'cifr10'.*cifar10"),
            (["--dataset", "folder", "--data_dir", "{empty}"], "is empty"),
            (["--dataset", "folder", "--data_dir", "{one}"], "only the class 'cat'"),
            (["--tpu", "local"], "TPU 'local' cannot be used"),
        ],
    )
    def test_of_training(self, options, message, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        conftest.write_photos(tmp_path / "one", classes=["cat"])
        before = sorted(tmp_path.rglob("*"))
        folders = {name: tmp_path / name for name in ("empty", "one")}
        sentence = refused(
            capsys,
            train_here,
            *QUICK,
            "--workdir",
            tmp_path / "run",
            *(option.format(**folders) for option in options),
        )
        assert re.search(message, sentence), sentence
        assert sorted(tmp_path.rglob("*")) == before

    @pytest.mark.usefixtures("tiny_variants", "without_the_picture")
    def test_of_images(self, tmp_path, capsys):
        photos = conftest.write_photos(tmp_path / "photos")
        (photos / "cat" / "broken.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
        workdir = tmp_path / "run"
        sentence = refused(
            capsys,
            train_here,
            *TINY,
            "--workdir",
            workdir,
            "--dataset",
            "folder",
            "--data_dir",
            photos,
        )
        assert "cat/broken.jpg: it is damaged" in sentence
        (listed,) = (workdir / "bad_examples.jsonl").read_text().splitlines()
        assert json.loads(listed)["key"] == str(photos / "cat" / "broken.jpg")

    def test_a_workdir_of_another_recipe(self, run, capsys):
        photos, workdir = run
        before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
        sentence = refused(
            capsys,
            train_here,
            *LONGER,
            "--dataset",
            "folder",
            "--data_dir",
            photos,
            "--workdir",
            workdir,
            "--seed",
            "5",
        )
        assert "another recipe (seed: 0 -> 5)" in sentence
        assert before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}

    @pytest.mark.parametrize(
        "arguments",
        [
            ["train_tpu.py", "--workdir", "x", "--epochs", "many"],
            ["train_tpu.py", "--workdir", "x", "--no_such_option", "1"],
            ["train_tpu.py"],
            ["-m", "export"],
            ["-m", "export", "no_such_program"],
            ["-m", "export", "tflite", "--workdir", "x", "--out", "y", "--verify_images", "0"],
            ["-m", "export", "classify", "x", "--count", "-3"],
        ],
    )
    def test_of_the_command_line(self, arguments):
        finished = python(*arguments, check=False)
        assert finished.returncode == 2 and ": error: " in finished.stderr
        assert len(finished.stderr.splitlines()) == 1, finished.stderr

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (["tflite", "--workdir", "{tmp}", "--out", "{tmp}/x.tflite"], "not a run directory"),
            (["saved_model", "--workdir", "{run}", "--out", "{photos}"], "is not a SavedModel"),
            (["classify", "{tmp}/none.tflite", "photo.jpg"], "There is no file"),
            (
                ["classify", "{run}/recipe.json", "photo.jpg"],
                "not a SavedModel, a TFLite, ONNX or Keras",
            ),
            (["inspect", "{run}/recipe.json"], "not a SavedModel, a TFLite, ONNX or Keras"),
            (["bench", "{run}/recipe.json"], "not a SavedModel, a TFLite, ONNX or Keras"),
            (
                ["tflite", "--out", "{tmp}/x.tflite"],
                "either --workdir, a run directory, or --model",
            ),
            (
                ["tflite", "--model", "{tmp}/no.keras", "--out", "{tmp}/x.tflite"],
                "There is no file",
            ),
            (
                ["tflite", "--model", "{run}/recipe.json", "--out", "{tmp}/x.tflite"],
                "cannot be loaded as a .keras model",
            ),
            (
                [
                    "tflite",
                    "--workdir",
                    "{run}",
                    "--quantize",
                    "int8",
                    "--calibration",
                    "{tmp}/none",
                    "--out",
                    "{tmp}/x.tflite",
                ],
                "There are no images at",
            ),
            (
                [
                    "tflite",
                    "--workdir",
                    "{run}",
                    "--io",
                    "int8",
                    "--quantize",
                    "none",
                    "--out",
                    "{tmp}/x.tflite",
                ],
                "goes with quantize 'int8'",
            ),
            (
                ["tflite", "--workdir", "{run}", "--out", "gs://bucket/m.tflite"],
                "not on this machine",
            ),
            (
                ["tflite", "--workdir", "{run}", "--out", "{run}/recipe.json/m.tflite"],
                "cannot be written",
            ),
            (
                ["classify", "{run}/recipe.json", "x.jpg", "--picture", "{tmp}/no/p.png"],
                "no folder",
            ),
            (["classify", "{tmp}/none.tflite"], "Give either image files, or --workdir"),
        ],
    )
    @pytest.mark.usefixtures("in_this_process")
    def test_of_export(self, run, arguments, message, tmp_path, capsys):
        places = dict(tmp=tmp_path, photos=run[0], run=run[1])
        given = (each.format(**places) for each in arguments)
        assert message in refused(capsys, export_here, *given)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("out", ["", "."])
    def test_of_export_where_the_program_runs(self, run, out, tmp_path, capsys, monkeypatch):
        """In a folder of its own: an empty --out once took the place of the current one."""
        (tmp_path / "saved_model.pb").write_text("mine")
        monkeypatch.chdir(tmp_path)
        refused(capsys, export_here, "saved_model", "--workdir", run[1], "--out", out)
        assert [path.name for path in tmp_path.iterdir()] == ["saved_model.pb"]


def export_here(*arguments):
    """Runs an export program in this process, which has TensorFlow already."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with programs.sentences():
            export.main(export.parse(["export", *map(str, arguments)]))
    finally:
        signal.signal(signal.SIGTERM, before)


class TestExport:
    @pytest.mark.usefixtures("in_this_process")
    def test_int8_calibrated_on_a_folder(self, run, tmp_path, capfd):
        photos, workdir = run
        model = tmp_path / "Fähre 8.tflite"
        export_here(
            "tflite",
            "--workdir",
            workdir,
            "--quantize",
            "int8",
            "--io",
            "uint8",
            "--min_sqnr",
            "0",
            "--calibration",
            photos,
            "--out",
            model,
        )
        shown = capfd.readouterr()
        assert "Calibrating on 24 images of" in shown.out and "Calibrating" in shown.err
        for text in ("SQNR of the logits", "accuracy", "worst layers", "latency", "dB equalised"):
            assert text in shown.out
        assert "held out from training" in shown.out and "95 % intervals" in shown.out
        report = json.loads((tmp_path / "Fähre 8.tflite.report.json").read_text())
        assert report["quantize"] == "int8" and report["check"]["layers"]
        assert report["check"]["groups"][0]["accuracy"]["high"] <= 1
        picture = tf.io.decode_png((tmp_path / "Fähre 8.tflite.layers.png").read_bytes())
        assert picture.shape[0] > 100
        export_here("inspect", model)
        shown = capfd.readouterr().out
        for text in ("int8", "cat, dog", "CONV_2D", "uint8", "XNNPACK"):
            assert text in shown
        export_here("bench", model, model, "--seconds", "0.2")
        shown = capfd.readouterr().out
        assert "1 thread" in shown and "2 threads" in shown and " x" in shown

    @pytest.mark.usefixtures("in_this_process")
    def test_a_keras_file(self, tmp_path, capfd):
        keras_file, names = tmp_path / "mine.keras", tmp_path / "names.txt"
        tiny = effnet_tf.CompoundScaling().variant(-8)
        effnet_tf.model_fn(tiny, 2, input_shape=(32, 32, 3)).save(keras_file)
        names.write_text("Käse\nbread\n", encoding="utf-8")
        arguments = ("tflite", "--model", keras_file, "--labels", names, "--out")
        export_here(*arguments, tmp_path / "m.tflite")
        shown = capfd.readouterr().out
        assert "quantize weights8, the default" in shown and "on drawn images" in shown
        photo = conftest.write_photos(tmp_path / "photos") / "cat" / "0.jpg"
        export_here("classify", tmp_path / "m.tflite", photo)
        assert "Käse" in capfd.readouterr().out
        before = keras_file.read_bytes()
        for out in (keras_file, names):
            with pytest.raises(SystemExit):
                export_here(*arguments, out)
            assert "is the same file as" in capfd.readouterr().err
        names.write_text("one\n")
        with pytest.raises(SystemExit):
            export_here(*arguments, tmp_path / "other.tflite")
        assert "1 class names for 2 classes" in capfd.readouterr().err
        assert not (tmp_path / "other.tflite").exists() and keras_file.read_bytes() == before

    def test_a_keras_file_cannot_run_code(self, tmp_path, capfd):
        images, mark = keras.Input((32, 32, 3)), tmp_path / "mark"
        code = f"lambda x: open({str(mark)!r}, 'w') and x"
        outputs = keras.layers.Lambda(eval(code), output_shape=(32, 32, 3))(images)
        keras.Model(images, outputs).save(tmp_path / "evil.keras")
        mark.unlink(missing_ok=True)
        with pytest.raises(SystemExit):
            export_here("tflite", "--model", tmp_path / "evil.keras", "--out", tmp_path / "x")
        assert "cannot be loaded" in capfd.readouterr().err and not mark.exists()

    @pytest.mark.usefixtures("in_this_process")
    def test_a_file_that_fails_its_check_is_exit_code_1(self, run, tmp_path, capfd):
        with pytest.raises(SystemExit) as stopped:
            export_here(
                "tflite",
                "--workdir",
                run[1],
                "--quantize",
                "weights8",
                "--min_sqnr",
                "500",
                "--out",
                tmp_path / "x.tflite",
            )
        assert stopped.value.code == 1 and "Nothing was written" in capfd.readouterr().err
        assert list(tmp_path.iterdir()) == []


class TestInterruptedExport:
    """The old file is as it was, whatever happens."""

    def start(self, run, out, **how):
        process = subprocess.Popen(
            [
                sys.executable,
                "-u",
                "-m",
                "export",
                "tflite",
                "--workdir",
                str(run[1]),
                "--quantize",
                "float16",
                "--out",
                str(out),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )
        return process

    @pytest.mark.parametrize(
        "number",
        [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT, signal.SIGKILL],
    )
    def test_by_a_signal(self, run, number, tmp_path):
        out = tmp_path / "m.tflite"
        out.write_text("old")
        process = self.start(run, out)
        for line in process.stdout:
            if line.startswith("Writing"):
                break
        while not list(tmp_path.glob(".partial-*/*")):
            assert process.poll() is None
            time.sleep(0.01)  # then it is at work
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}.get(number, -number)
        assert out.read_text() == "old" and "Traceback" not in errors
        if number != signal.SIGKILL:
            assert errors.splitlines()[-1].endswith(f": nothing was written to {out}.")
        if number == signal.SIGKILL:
            assert len(list(tmp_path.iterdir())) == 2
            with staging.staged(str(out)) as temporary:  # the next export tidies up
                staging.write(temporary, b"new")
            assert out.read_text() == "new"
        assert list(tmp_path.iterdir()) == [out], errors

    def test_by_a_full_disk(self, run, tmp_path):
        out = tmp_path / "m.tflite"
        out.write_text("old")
        limit = 200_000  # bytes per file, as if no more fitted

        def fill():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        process = self.start(run, out, preexec_fn=fill)
        _, errors = process.communicate(timeout=300)
        assert process.returncode in (1, 74) and "Traceback" not in errors.split("log:")[0]
        assert "error: " in errors
        assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_help_is_quick_and_gives_sources():
    out = python("-X", "importtime", "train_tpu.py", "--help")
    assert "tensorflow" not in out.stderr
    for text in ("--variant", "--label_smoothing", "(paper", "main.py", "--no-flip"):
        assert text in out.stdout
    assert "tensorflow" not in python("-X", "importtime", "-m", "export", "--help").stderr


@pytest.mark.slow
def test_the_demo_reaches_its_accuracy():
    """`make demo` without its set-up; the README promises 97 %."""
    out = python("tools/demo.py").stdout
    result = json.loads((ROOT / "runs/digits/result.json").read_text())
    assert result["eval_accuracy"] >= 0.97
    assert "Done in" in out and "python train_tpu.py --dataset folder" in out
    for name in ("learning_curve.png", "predictions.png", "digits.tflite", "saved_model"):
        assert (ROOT / "runs/digits" / name).exists()
