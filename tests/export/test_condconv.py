"""CondConv as files: kernels are mixed in them, for each image."""

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import InputError, export
from effnet_tf.export import folding
from effnet_tf.layers.cond_conv import MixedConvolution
from tests.helpers import goldens, tiny_condconv
from tests.helpers.tiny_condconv import IMAGES


@pytest.fixture(scope="module")
def model():
    return tiny_condconv.build(classifier_activation="softmax")


@pytest.mark.parametrize("flat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_batch_norm_goes_into_every_expert(flat):
    model = tiny_condconv.build(flat=flat)
    folded = folding.fold(model)
    expected = np.asarray(model(IMAGES))
    assert np.abs(folded(IMAGES) - expected).max() < 1e-4 * expected.std()
    mixed = [layer for layer in folded.layers if isinstance(layer, MixedConvolution)]
    assert len(mixed) == 8 and all(layer.use_bias for layer in mixed)
    assert not any("bn" in layer.name for layer in folded.layers)


@pytest.mark.slow
def test_saved_model_takes_any_number_of_images(model, tmp_path):
    export.to_saved_model(model, str(tmp_path / "a"), verify_with=IMAGES)
    serve = tf.saved_model.load(str(tmp_path / "a")).signatures["serving_default"]
    for count in (1, 3):
        found = serve(images=tf.constant(IMAGES[:count]))["probabilities"]
        np.testing.assert_allclose(found, model(IMAGES[:count]), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_onnx_takes_any_number_of_images(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    path = str(tmp_path / "a.onnx")
    export.to_onnx(model, path, verify_with=IMAGES)
    session = onnxruntime.InferenceSession(path)
    for count in (1, 3):
        found = session.run(["probabilities"], {"images": IMAGES[:count]})[0]
        np.testing.assert_allclose(found, model(IMAGES[:count]), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 3, "dynamic"])
def test_tflite(model, batch, tmp_path):
    path = str(tmp_path / "a.tflite")
    export.to_tflite(model, path, quantize="none", batch=batch, verify_with=IMAGES)
    count = 3 if batch == "dynamic" else batch
    found = export.load(path)(IMAGES[:count])
    np.testing.assert_allclose(found, model(IMAGES[:count]), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("quantize, decibels", [("none", 100), ("float16", 55)])
def test_tflite_of_the_real_size(quantize, decibels, tmp_path):
    model = effnet_tf.model_fn("condconv-b0-4e")
    goldens.load_seeded(model, goldens.read("condconv-b0-4e"))
    images = goldens.images(224, 224)
    report = export.to_tflite(
        model, str(tmp_path / "a.tflite"), quantize=quantize, verify_with=images
    )
    assert report.sqnr_db > decibels and report.top1_agreement == 1


@pytest.mark.parametrize(
    "quantize",
    [
        "weights8",
        "int8",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("int16x8", "dynamic")),
    ],
)
def test_kernels_of_8_bits_are_refused(model, quantize, tmp_path):
    path = tmp_path / "a.tflite"
    with pytest.raises(InputError, match=f"'{quantize}' stores kernels of 8 bits.*CondConv"):
        export.to_tflite(model, str(path), quantize=quantize, calibration=IMAGES)
    assert not path.exists()


@pytest.mark.slow
def test_the_default_is_a_kind_that_can_be(model, tmp_path, capsys):
    export.to_tflite(model, str(tmp_path / "a.tflite"), verify_with=IMAGES)
    assert "quantize float16" in capsys.readouterr().out
