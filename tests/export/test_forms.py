"""Both forms of a network become the same files, by our exports and by Keras' own."""

import dataclasses
import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import export
from effnet_tf.export import identify, safety
from effnet_tf.export.tflite import flatbuffer
from tests.helpers import flat_net, in_process, joined, tiny_net

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "tf2onnx", "onnxruntime"))


@pytest.fixture(autouse=True, scope="module")
def in_this_process():
    """What is tested here is what is done; that it is done in a fresh process costs seconds."""
    with in_process.jobs_here():
        yield


def both_forms(variant, folder, classes=3, **options):
    """A composite network, and the flat one of the same weights."""
    path = str(folder / "m.weights.h5")
    composite = effnet_tf.model_fn(variant, classes, **options)
    tiny_net.randomise_batch_norm(composite).save_weights(path)
    flat = effnet_tf.model_fn(variant, classes, flat=True, **options)
    effnet_tf.load_weights(flat, path)
    return composite, flat


def check_files(models, folder, images, pads=0):
    """Compares the TFLite files of some models: operators, delegation, outputs."""
    files = []
    for number, model in enumerate(models):
        path = str(folder / f"{number}.tflite")
        report = export.to_tflite(model, path, quantize="none", verify_with=images)
        assert report.delegated == sum(report.operators.values())
        assert report.delegated_pieces == 1
        names = flatbuffer.operator_names(identify.tflite_model(path))
        assert not {"RESHAPE", "SHAPE", "PACK", "STRIDED_SLICE", "DIV"} & set(names)
        assert list(names).count("PAD") == pads
        files.append((names, export.load(path)(images)))
    for names, scores in files[1:]:
        assert names == files[0][0]
        np.testing.assert_allclose(scores, files[0][1], atol=1e-5)


def test_tflite(tmp_path):
    """And a network of keras.applications has no other kinds of operators."""
    variant = tiny_net.scaled(-8)
    models = both_forms(variant, tmp_path, input_shape=(40, 40, 3))
    images = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3)).astype("float32")
    check_files(models, tmp_path, images)
    check_files([flat_net.tiny(40)], tmp_path, images)


def test_tflite_of_symmetric_padding(tmp_path):
    """On 40, 20, 10 and 5, 3, 2 pixels the zeros of the even sides stay."""
    row = tiny_net.scaled(-8, base="lite0")
    row = dataclasses.replace(row, padding="symmetric", batch_norm_epsilon=1e-5)
    models = both_forms(row, tmp_path, input_shape=(40, 40, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype("float32")
    check_files(models, tmp_path, images, pads=3)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "lite0", "edgetpu-s"])
def test_published_networks(variant, tmp_path):
    models = both_forms(variant, tmp_path, 10, input_shape=(96, 96, 3))
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype("float32")
    check_files(models, tmp_path, images)


@pytest.mark.parametrize("flat", [False, True])
class TestExportOfKeras:
    """`model.export`: a file that knows nothing of us, and calls no Python."""

    @staticmethod
    def model(flat):
        """A network in another model, after `predict`: what that traced is not exported."""
        inputs = keras.Input(joined.SHAPE)
        scores = keras.layers.Dense(2)(joined.network(flat)(inputs))
        model = keras.Model(inputs, scores)
        images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
        return model, images, model.predict(images, verbose=0)

    def test_saved_model(self, flat, tmp_path):
        model, images, expected = self.model(flat)
        path = str(tmp_path / "out")
        model.export(path, verbose=False)
        served = tf.saved_model.load(path)
        np.testing.assert_allclose(served.serve(images), expected, rtol=1e-4, atol=1e-4)
        safety.require(path)  # nothing but tensors

    @pytest.mark.filterwarnings("ignore::FutureWarning")  # of NumPy's old names in tf2onnx
    @pytest.mark.skipif(not HAS_ONNX, reason="needs the extra [onnx]")
    def test_onnx(self, flat, tmp_path):
        import onnxruntime

        model, images, expected = self.model(flat)
        path = str(tmp_path / "out.onnx")
        model.export(path, format="onnx", verbose=False)
        session = onnxruntime.InferenceSession(path)
        (images_in,) = session.get_inputs()
        (scores,) = session.run(None, {images_in.name: images})
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
