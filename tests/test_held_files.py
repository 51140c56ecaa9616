"""Files that users hold, written by commit f2df79c: they load, and compute what they did."""

import importlib
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import export, train
from effnet_tf.runs import checkpoints
from effnet_tf.train.trainer import Trainer
from tests.helpers import in_process
from tests.reference import make_held
from tests.reference.make_held import FAMILIES, HELD, KINDS

ANSWERS = np.load(HELD / "answers.npz")
NAMES = json.loads((HELD / "names.json").read_text())
CPU = tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.fixture
def known_variants(monkeypatch):
    """The recipe of the run names one of these."""
    for base in FAMILIES.values():
        monkeypatch.setitem(effnet_tf.VARIANTS, f"held-{base}", make_held.variant(base))


def answer(model):
    return np.asarray(model.predict(ANSWERS["images"], verbose=0))


@pytest.mark.parametrize("module", NAMES)
def test_every_public_name_is_there(module):
    for name in NAMES[module]:
        assert hasattr(importlib.import_module(module), name), name


@pytest.mark.parametrize("family", FAMILIES)
def test_keras_files(family):
    model = effnet_tf.load_model(HELD / f"{family}.keras")
    np.testing.assert_allclose(answer(model), ANSWERS[family], rtol=1e-4, atol=1e-6)


def test_a_legacy_file_of_a_model():
    """From when the pixel constants were no weights: it lists one layer with weights less."""
    model = effnet_tf.load_model(HELD / "b.h5")
    np.testing.assert_allclose(answer(model), ANSWERS["b"], rtol=1e-4, atol=1e-6)
    assert len(model.layers[1].weights) == 2


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["b.keras", "b.h5", "b.weights.h5"])
def test_weights_of_files(name, flat):
    keras.utils.set_random_seed(99)
    model = effnet_tf.model_fn(make_held.variant("b0"), 3, input_shape=(32, 32, 3), flat=flat)
    assert effnet_tf.load_weights(model, HELD / name).exact
    np.testing.assert_allclose(answer(model), ANSWERS["b"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["saved_model", *(f"b-{kind}.tflite" for kind in KINDS)])
def test_exported_files(name):
    found = export.load(str(HELD / name))(ANSWERS["images"])
    kind = name.removeprefix("b-").removesuffix(".tflite")
    wanted = ANSWERS["b"] if name == "saved_model" else ANSWERS[f"tflite-{kind}"]
    np.testing.assert_allclose(found, wanted, atol=0.01 if "int" in kind else 1e-5)


def test_exported_files_still_verify():
    model = effnet_tf.load_model(HELD / "b.keras")
    for kind in KINDS:
        with in_process.jobs_here():
            report = export.verify(model, str(HELD / f"b-{kind}.tflite"), ANSWERS["images"])
        assert report.kind == kind and report.sqnr_db > 15  # measured: 117, 47, 34, 18 and 27


@pytest.mark.parametrize("name", ["saved_model", "b-none.tflite", "b.onnx", "b.keras"])
@pytest.mark.parametrize("folder", ["a[0] b", "*", "ü\\n"])
def test_exported_files_lie_anywhere(tmp_path, name, folder):
    """A SavedModel in a folder with a bracket could be written, and not be loaded."""
    if name == "b.onnx":
        pytest.importorskip("onnxruntime")
    place = tmp_path / folder / name
    copy = shutil.copytree if (HELD / name).is_dir() else shutil.copy
    place.parent.mkdir()
    copy(HELD / name, place)
    found = export.load(str(place))(ANSWERS["images"])
    np.testing.assert_allclose(found, ANSWERS["b"], atol=1e-5)


def test_onnx():
    pytest.importorskip("onnxruntime")
    found = export.load(str(HELD / "b.onnx"))(ANSWERS["images"])
    np.testing.assert_allclose(found, ANSWERS["b"], rtol=1e-4, atol=1e-6)


def test_what_files_say_of_themselves():
    from effnet_tf.export import identify

    for name in ("saved_model", "b-none.tflite", "b-int8.tflite", "b.onnx"):
        about = identify.about(str(HELD / name))
        assert about.class_names == make_held.CLASSES and about.image_size == 32


class TestARun:
    @pytest.mark.parametrize("flat", [False, True])
    def test_gives_its_weights(self, flat):
        model = effnet_tf.model_fn(make_held.variant("b0"), 3, input_shape=(32, 32, 3), flat=flat)
        report = effnet_tf.load_weights(model, HELD / "run")
        assert report.ema and report.exact

    def test_goes_on_from_its_checkpoint(self, known_variants, tmp_path, monkeypatch):
        """What is restored is equal to the bit; later steps, on other processors, to rounding."""
        copy = shutil.copytree(HELD / "run", tmp_path / "run")
        restore, restored = Trainer.restore, {}

        def note(trainer, values):
            restore(trainer, values)
            restored.update(trainer.snapshot())

        monkeypatch.setattr(Trainer, "restore", note)
        metrics = train.run(make_held.recipe(), str(copy), CPU)
        held = checkpoints.read(checkpoints.newest(str(HELD / "run" / "checkpoints")))
        assert restored.keys() == held.keys()
        for name, value in held.items():
            np.testing.assert_array_equal(restored[name], value, err_msg=name)
        state = checkpoints.read(checkpoints.newest(str(copy / "checkpoints")))
        for name, value in state.items():
            np.testing.assert_allclose(
                value, ANSWERS[f"state/{name}"], rtol=1e-3, atol=1e-4, err_msg=name
            )
        np.testing.assert_allclose(metrics["eval_loss"], ANSWERS["eval_loss"], rtol=1e-3)
