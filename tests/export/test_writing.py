"""export: what is written computes what the model computes, or is not written."""

import contextlib
import functools
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import export
from effnet_tf.errors import InputError
from effnet_tf.export import identify, staging
from tests.helpers import in_process, tiny_net
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("in_this_process")  # but the files of `written` are not

TINY = tiny_net.scaled(-8)
WRITERS = {
    "saved_model": export.to_saved_model,
    "tflite": functools.partial(export.to_tflite, quantize="none"),
    "onnx": export.to_onnx,
}


@pytest.fixture(scope="module")
def model():
    return effnet_tf.model_fn(TINY, 4, input_shape=(40, 40, 3))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 40, 40, 3)).astype("uint8")


@pytest.fixture(scope="module")
def written(model, images, tmp_path_factory):
    """An artefact of each writer: {name: (path, report)}; one checked in a process of its own."""
    folder = tmp_path_factory.mktemp("artefacts")
    about = export.describe(model, class_names=("a", "b", "ü", "d"))
    found = {}
    for name, write in WRITERS.items():
        path = str(folder / name)
        with contextlib.nullcontext() if name == "saved_model" else in_process.jobs_here():
            report = write(model, path, about=about, verify_with=images, labels=[0, 1, 2, 3, -1])
        found[name] = path, report
    return found


@pytest.mark.parametrize("name", WRITERS)
class TestEveryWriter:
    def test_computes_what_the_model_computes(self, written, name, model, images):
        scores = export.load(written[name][0])(images)
        assert scores.shape == (5, 4) and scores.dtype == np.float32
        np.testing.assert_allclose(scores, model(images), atol=1e-5)

    def test_reports(self, written, name, model, images):
        path, report = written[name]
        assert report.images == 5 and report.top1_agreement == report.top5_agreement == 1
        assert report.largest_difference < 1e-5
        assert report.sqnr_db is None or report.sqnr_db > 80  # None: bit for bit
        assert report.size_bytes == staging.size(path)
        expected = (np.argmax(model(images), -1)[:4] == [0, 1, 2, 3]).mean()
        assert report.accuracy == report.model_accuracy == expected

    def test_says_what_it_is(self, written, name):
        about = identify.about(written[name][0])
        assert about.class_names == ("a", "b", "ü", "d") and about.image_size == 40
        assert about.variant == TINY.name and about.normalizes and len(about.mean) == 3


def test_nothing_but_the_artefacts_is_left(written):
    assert sorted(os.listdir(os.path.dirname(written["tflite"][0]))) == sorted(WRITERS)


def test_an_artefact_can_be_verified_again(written, model, images):
    report = export.verify(model, written["tflite"][0], images)
    assert report.kind == "none" and report.largest_difference < 1e-5
    other = effnet_tf.model_fn(TINY, 4, input_shape=(40, 40, 3))
    other.get_layer("predictions").bias.assign([0.0, 5.0, 0.0, 0.0])
    with pytest.raises(export.VerificationError, match="does not compute what the model"):
        export.verify(other, written["saved_model"][0], images)


class TestFailedChecks:
    @pytest.mark.parametrize("before", [None, "an older file"])
    def test_a_file_past_its_tolerance_is_not_written(self, before, model, images, tmp_path):
        path = tmp_path / "out.tflite"
        if before:
            path.write_text(before)
        with pytest.raises(export.VerificationError, match="at least 200 dB"):
            export.to_tflite(model, str(path), verify_with=images, min_sqnr=200)
        assert os.listdir(tmp_path) == (["out.tflite"] if before else [])
        assert not before or path.read_text() == before


class TestPlaces:
    def test_a_saved_model_is_replaced_and_folders_are_made(self, model, images, tmp_path):
        for _ in range(2):
            export.to_saved_model(model, str(tmp_path / "a" / "b"), verify_with=images)
        assert os.listdir(tmp_path / "a") == ["b"]
        assert "saved_model.pb" in os.listdir(tmp_path / "a" / "b")

    def test_directories_change_places_or_stay(self, tmp_path):
        for name in ("old", "new", "aside"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "saved_model.pb").write_text(name)
        places = [str(tmp_path / name) for name in ("old", "aside")]
        staging._replace(str(tmp_path / "new"), *places)
        assert (tmp_path / "old" / "saved_model.pb").read_text() == "new"
        assert (tmp_path / "aside" / "old" / "saved_model.pb").read_text() == "old"
        with pytest.raises(OSError):
            staging._replace(str(tmp_path / "missing"), *places)
        assert (tmp_path / "old" / "saved_model.pb").read_text() == "new"

    def test_a_second_rename_that_fails_is_undone(self, tmp_path, monkeypatch):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "saved_model.pb").write_text("old")
        (tmp_path / "out.report.json").write_text('{"check": {}}')
        rename = os.rename

        def fail_for_the_new(old, new):
            if old.endswith("made"):
                raise OSError("no more")
            rename(old, new)

        monkeypatch.setattr(os, "rename", fail_for_the_new)
        with (
            pytest.raises(OSError, match="no more"),
            staging.staged(str(tmp_path / "out"), "saved_model.pb") as temporary,
        ):
            os.mkdir(temporary)
        assert (tmp_path / "out" / "saved_model.pb").read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["out", "out.report.json"]

    def test_a_file_never_replaces_a_directory(self, tmp_path):
        """An empty --out once was the directory that the program ran in."""
        (tmp_path / "directory").mkdir()
        (tmp_path / "directory" / "saved_model.pb").write_text("old")
        (tmp_path / "file").write_text("new")
        with pytest.raises(OSError):
            staging._replace(str(tmp_path / "file"), str(tmp_path / "directory"), str(tmp_path))
        assert (tmp_path / "directory" / "saved_model.pb").read_text() == "old"

    @pytest.mark.parametrize("path", ["", ".", "..", "/", "sub/.."])
    @pytest.mark.parametrize("mark", [None, "saved_model.pb"])
    def test_where_the_program_runs_stays(self, path, mark, tmp_path, monkeypatch):
        (tmp_path / "inner" / "sub").mkdir(parents=True)
        for folder in (tmp_path, tmp_path / "inner"):
            (folder / "saved_model.pb").write_text("mine")
        monkeypatch.chdir(tmp_path / "inner")
        with pytest.raises(InputError), staging.staged(path, mark) as temporary:
            staging.write(temporary, b"x")
        assert (tmp_path / "saved_model.pb").read_text() == "mine"
        assert sorted(os.listdir()) == ["saved_model.pb", "sub"]

    @pytest.fixture
    def killed(self, tmp_path):
        """A folder in which an export was killed between its two renames."""
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "saved_model.pb").write_text("old")
        (tmp_path / "out.report.json").write_text('{"check": {}}')
        code = """if True:
            import os, signal, sys
            from effnet_tf.export import staging
            rename = os.rename
            def kill_before_the_second(old, new):
                if new == sys.argv[1]:
                    os.kill(os.getpid(), signal.SIGKILL)
                rename(old, new)
            os.rename = kill_before_the_second
            with staging.staged(sys.argv[1], "saved_model.pb") as temporary:
                os.mkdir(temporary)
        """
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")])
        assert done.returncode == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
        return tmp_path

    def test_a_kill_between_two_renames_loses_nothing(self, killed):
        with staging.staged(str(killed / "another")) as temporary:
            assert (killed / "out" / "saved_model.pb").read_text() == "old"
            staging.write(temporary, b"x")
        assert sorted(os.listdir(killed)) == ["another", "out", "out.report.json"]

    @pytest.mark.parametrize("name", WRITERS)
    def test_what_is_put_aside_comes_back_before_anything_else(self, killed, name, model):
        """Even by an export that is refused at its door."""
        with pytest.raises(InputError, match="verify_with"):
            WRITERS[name](model, str(killed / "another"), verify_with=np.zeros((0, 40, 40, 3)))
        assert sorted(os.listdir(killed)) == ["out", "out.report.json"]

    def test_whoever_reads_what_is_put_aside_is_told(self, killed):
        with pytest.raises(InputError, match="has moved the old one to '.*replaced/out'"):
            export.load(str(killed / "out"))
        with pytest.raises(InputError, match="There is no file '.*other'"):
            export.load(str(killed / "other"))

    def test_two_steps_without_a_kill_leave_nothing(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "saved_model.pb").write_text("old")
        with staging.staged(str(tmp_path / "out"), "saved_model.pb") as temporary:
            os.mkdir(temporary)
        assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == []

    def test_the_report_of_another_file_goes_with_it(self, tmp_path):
        out, report = tmp_path / "out", tmp_path / "out.report.json"
        for text, stays in (('{"check": {}}', False), ('{"mine": 1}', True), ("[", True)):
            report.write_text(text)
            with staging.staged(str(out)) as temporary:
                staging.write(temporary, b"x")
            assert report.exists() == stays
        report.write_text('{"check": {}}')
        with pytest.raises(OSError), staging.staged(str(out)):
            pass  # nothing was made: the old file stays, and its report
        assert report.exists() and out.exists()

    def test_another_directory_is_not(self, model, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        for write in WRITERS.values():
            with pytest.raises(InputError):
                write(model, str(tmp_path))
        assert os.listdir(tmp_path) == ["thesis.txt"]

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        (tmp_path / ".partial-dead").mkdir()
        (tmp_path / ".partial-dead" / ".lock").write_text("")
        (tmp_path / ".partial-foreign").mkdir()  # no lock: not of this program
        with staging.staged(str(tmp_path / "one")) as first:
            with staging.staged(str(tmp_path / "two")) as second:  # the first is still at work
                for path in (first, second):
                    staging.write(path, b"content")
        assert sorted(os.listdir(tmp_path)) == [".partial-foreign", "one", "two"]


def test_tflite_needs_a_static_size():
    with pytest.raises(InputError, match="static input size"):
        export.to_tflite(
            effnet_tf.model_fn(TINY, 4, input_shape=(None, 40, 3)),
            "x.tflite",
            verify_with=np.zeros((1, 40, 40, 3)),
        )


def test_a_subclassed_model_is_refused(tmp_path):
    class Own(keras.Model):
        def call(self, images):
            return images[:, 0, 0]

    own = Own()
    own(np.zeros((1, 8, 8, 3)))
    with pytest.raises(InputError, match="functional or sequential"):
        export.to_saved_model(own, str(tmp_path / "x"))
