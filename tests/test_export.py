"""export.py: what is written computes what the model computes, or is not written."""

import os

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import export
from effnet_tf.config import InputError

TINY = effnet_tf.CompoundScaling().variant(-8)


@pytest.fixture(scope="module")
def model():
    return effnet_tf.model_fn(TINY, 4, input_shape=(40, 36, 3))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 40, 36, 3)).astype("uint8")


@pytest.fixture(scope="module")
def written(model, images, tmp_path_factory):
    """Both artefacts: {"saved_model": path, "tflite": path}."""
    folder = tmp_path_factory.mktemp("artefacts")
    paths = {"saved_model": str(folder / "saved"), "tflite": str(folder / "model.tflite")}
    export.to_saved_model(model, paths["saved_model"], class_names=["a", "b", "ü", "d"],
                          verify_with=images)
    export.to_tflite(model, paths["tflite"], verify_with=images)
    return paths


@pytest.mark.parametrize("kind", ["saved_model", "tflite"])
def test_artefacts_compute_what_the_model_computes(written, kind, model, images):
    probabilities = export.load(written[kind])(images)
    assert probabilities.shape == (5, 4) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, model(images), atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    report = export.verify(model, written[kind], images)
    assert report.images == 5 and report.top1_agreement == 1
    assert report.largest_difference <= report.tolerance


def test_nothing_but_the_artefacts_is_left(written):
    assert sorted(os.listdir(os.path.dirname(written["tflite"]))) == ["model.tflite", "saved"]


def test_saved_model_stands_alone(written, images):
    loaded = tf.saved_model.load(written["saved_model"])
    signature = loaded.signatures["serving_default"]
    assert signature.structured_input_signature[1]["images"].shape == (None, 40, 36, 3)
    for count in (1, 3):
        batch = tf.cast(images[:count], tf.float32)
        assert signature(images=batch)["probabilities"].shape == (count, 4)
    labels = os.path.join(written["saved_model"], "assets", "labels.txt")
    assert open(labels, encoding="utf-8").read().splitlines() == ["a", "b", "ü", "d"]


def test_saved_model_has_every_weight_once(written, model):
    weights = 4 * model.count_params()
    data = sum(os.path.getsize(os.path.join(written["saved_model"], "variables", name))
               for name in os.listdir(os.path.join(written["saved_model"], "variables")))
    assert weights < data < 1.1 * weights


def test_tflite_is_static_named_and_plain(written):
    with pytest.warns(UserWarning, match="deprecated"):
        interpreter = tf.lite.Interpreter(written["tflite"])
    signature = interpreter.get_signature_list()["serving_default"]
    assert signature == {"inputs": ["images"], "outputs": ["probabilities"]}
    assert list(interpreter.get_input_details()[0]["shape"]) == [1, 40, 36, 3]
    operators = {op["op_name"] for op in interpreter._get_ops_details()} - {"DELEGATE"}
    # No shape arithmetic, no resource variable, nothing outside TFLite's own operators.
    assert not operators & {"SHAPE", "PACK", "STRIDED_SLICE", "RESHAPE", "PAD", "VAR_HANDLE",
                            "READ_VARIABLE"}
    assert not any("Flex" in name for name in operators)


def test_default_images_are_noise_of_the_right_size(written, model):
    assert export.verify(model, written["saved_model"]).images == 8


@pytest.mark.parametrize("write", [export.to_saved_model, export.to_tflite])
class TestFailedChecks:
    @pytest.mark.parametrize("before", [None, "an older file"])
    def test_a_wrong_file_does_not_reach_its_place(self, write, before, model, images, tmp_path,
                                                   monkeypatch):
        path = tmp_path / "out"
        if before and write is export.to_tflite:
            path.write_text(before)
        honest = export.load
        monkeypatch.setattr(export, "load", lambda path: lambda x: honest(path)(x) * 1.01)
        with pytest.raises(export.VerificationError, match="does not compute"):
            write(model, str(path), verify_with=images)
        assert os.listdir(tmp_path) == (["out"] if path.exists() else [])
        assert not path.exists() or path.read_text() == before

    def test_nan_is_wrong(self, write, model, images, tmp_path, monkeypatch):
        monkeypatch.setattr(export, "load", lambda path: lambda x: np.full((len(x), 4), np.nan))
        with pytest.raises(export.VerificationError):
            write(model, str(tmp_path / "out"), verify_with=images)
        assert os.listdir(tmp_path) == []


class TestPlaces:
    def test_a_saved_model_is_replaced(self, model, images, tmp_path):
        for _ in range(2):
            export.to_saved_model(model, str(tmp_path / "out"), verify_with=images)
        assert os.listdir(tmp_path) == ["out"]
        assert "saved_model.pb" in os.listdir(tmp_path / "out")

    def test_the_old_one_comes_back_if_the_new_one_cannot_move(self, tmp_path):
        (tmp_path / "old").mkdir()
        (tmp_path / "old" / "saved_model.pb").write_text("old")
        with pytest.raises(OSError):
            export._replace(str(tmp_path / "missing"), str(tmp_path / "old"),
                            str(tmp_path / "aside"))
        assert (tmp_path / "old" / "saved_model.pb").read_text() == "old"

    def test_another_directory_is_not(self, model, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        for write in (export.to_saved_model, export.to_tflite):
            with pytest.raises(InputError):
                write(model, str(tmp_path))
        assert os.listdir(tmp_path) == ["thesis.txt"]

    def test_folders_are_made(self, model, images, tmp_path):
        export.to_saved_model(model, str(tmp_path / "a" / "b"), verify_with=images)
        assert os.listdir(tmp_path / "a") == ["b"]


def test_tflite_needs_a_static_size():
    with pytest.raises(InputError, match="static input size"):
        export.to_tflite(effnet_tf.model_fn(TINY, 4, input_shape=(None, 40, 3)), "x.tflite")


@pytest.mark.parametrize("content", [None, b"no flatbuffer at all"])
def test_loading_something_else(tmp_path, content):
    path = tmp_path / "file.tflite"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError, match="no TFLite file|no SavedModel"):
        export.load(str(path))
