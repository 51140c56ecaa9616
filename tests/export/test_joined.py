"""Exports of what people make of our networks: several inputs, videos, networks in own layers."""

import importlib.util

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import export
from effnet_tf.errors import InputError
from effnet_tf.export import inputs
from tests.helpers import in_process, joined

HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "tf2onnx", "onnxruntime"))


@pytest.fixture(autouse=True, scope="module")
def in_this_process():
    """What is tested here is what is done; that it is done in a fresh process costs seconds."""
    with in_process.jobs_here():
        yield


# Composite networks only where the form makes a difference: inside of what is not taken apart.
COMPOSITE = ("siamese", "video", "inside of a layer", "inside of a model")
CASES = [(name, True) for name in joined.MODELS] + [(name, False) for name in COMPOSITE]
# In one form, or of a kind that another case stands for: `make test-all`.
SLOW = [
    ("by name", True),
    ("inside of a layer", True),
    ("siamese", False),
    ("video", False),
    ("inside of a model", True),
    ("inside of a model", False),
]


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, marks=pytest.mark.slow) if case in SLOW else case for case in CASES],
    ids=lambda case: f"{case[0]}, {['composite', 'flat'][case[1]]}",
)
def model(request):
    name, flat = request.param
    return joined.MODELS[name](flat)


def expected(model):
    """What a model gives for the noise that its file is checked on."""
    return model(inputs.packed(model, inputs.noise(model)), training=False)


class TestWholeFiles:
    def test_saved_model(self, model, tmp_path):
        path = str(tmp_path / "out")
        report = export.to_saved_model(model, path)
        assert report.images == 8 and report.largest_difference < 1e-5
        serve = tf.saved_model.load(path).signatures["serving_default"]
        arrays = inputs.noise(model)
        assert set(serve.structured_input_signature[1]) == set(arrays)
        given = serve(**{name: tf.constant(array) for name, array in arrays.items()})
        np.testing.assert_allclose(given["probabilities"], expected(model), atol=1e-5)
        none = serve(**{name: tf.constant(array[:0]) for name, array in arrays.items()})
        assert none["probabilities"].shape[0] == 0

    def test_about(self, model):
        about = export.describe(model)
        assert about.normalizes
        assert about.image_size == (32 if len(model.inputs[0].shape) == 4 else None)
        if model.inputs[0].shape[-1] == 3 and not any("mobile" in x.name for x in model.layers):
            assert about.mean == pytest.approx((123.675, 116.28, 103.53))


@pytest.mark.skipif(not HAS_ONNX, reason="needs the extra [onnx]")
@pytest.mark.parametrize(
    "name",
    [
        "image and table",
        pytest.param("video", marks=pytest.mark.slow),
        pytest.param("inside of a layer", marks=pytest.mark.slow),
    ],
)
def test_onnx(name, tmp_path):
    import onnxruntime

    model, path = joined.MODELS[name](True), str(tmp_path / "out.onnx")
    report = export.to_onnx(model, path)
    assert report.images == 8 and report.largest_difference < 1e-5
    session = onnxruntime.InferenceSession(path)
    (scores, _) = session.run(["probabilities", "logits"], inputs.noise(model))
    np.testing.assert_allclose(scores, expected(model), atol=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param("inside of a layer", marks=pytest.mark.slow), "siamese", "video"]
)
def test_tflite_takes_one_image(name, tmp_path):
    model, path = joined.MODELS[name](True), str(tmp_path / "out.tflite")
    if inputs.takes_one_image(model):
        assert export.to_tflite(model, path, quantize="none").largest_difference < 1e-4
        return
    with pytest.raises(InputError, match=r"must take one image.*; it takes .*32"):
        export.to_tflite(model, path)


class TestArguments:
    @pytest.fixture(scope="class")
    def model(self):
        """Of two inputs with names."""
        return joined.by_name(True)

    def test_arrays(self, model, tmp_path):
        path = str(tmp_path / "out")
        arrays = inputs.noise(model)
        assert list(arrays) == inputs.names(model) == ["photo", "words"]
        half = {name: array[:4] for name, array in arrays.items()}
        for given in (half, list(half.values())):
            report = export.to_saved_model(model, path, verify_with=given, labels=np.zeros(4, int))
            assert report.images == 4 and report.accuracy is not None
        assert export.verify(model, path, half).images == 4
        with pytest.raises(InputError, match="takes 2 inputs; a classifier takes images alone"):
            export.load(path)

    @pytest.mark.parametrize(
        "given, message",
        [
            (lambda one, two: one, "takes 2 inputs, .*words: verify_with must be a list"),
            (lambda one, two: {"a": one, "b": two}, "or a dict of them by these names"),
            (lambda one, two: [one, two[:, :3]], r"arrays of 'words' are \(8, 3\).*must be \(N, 4"),
            (lambda one, two: [one, two[:3]], "differ in length: 8 of .*, 3 of words"),
            (lambda one, two: [one * np.nan, two], "hold numbers that are not finite"),
        ],
    )
    def test_what_does_not_fit(self, model, given, message, tmp_path):
        arrays = inputs.noise(model)
        wrong = given(*arrays.values())
        with pytest.raises(InputError, match=message):
            export.to_saved_model(model, str(tmp_path / "out"), verify_with=wrong)

    def test_options_of_images(self, tmp_path):
        model = joined.siamese(True)
        for option in ({"keep_batch_norm": True}, {"input_dtype": "uint8"}):
            with pytest.raises(InputError, match="is for models of one batch of images"):
                export.to_saved_model(model, str(tmp_path / "out"), **option)

    def test_text(self, tmp_path):
        text = keras.Input((1,), dtype="string", name="words")
        images = keras.Input((8, 8, 3))
        layer = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")
        both = keras.layers.Concatenate()([keras.layers.Flatten()(images), layer(text)])
        model = keras.Model([images, text], keras.layers.Dense(2)(both))
        with pytest.raises(InputError, match="input 'words' takes string"):
            export.to_saved_model(model, str(tmp_path / "out"))
