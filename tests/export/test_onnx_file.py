"""export/onnx_file.py: other runtimes compute what the model computes."""

import sys

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import variants
from effnet_tf.errors import InputError
from effnet_tf.export import folding, onnx_file
from effnet_tf.export.about import About
from tests.helpers import tiny_net

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")
onnxruntime = pytest.importorskip("onnxruntime")

with tiny_net.registered():
    TINY = variants.VARIANTS["tiny"]
ABOUT = About("tiny", class_names=("a", "b", "ü", "猫"), recipe={"epochs": 3})


@pytest.fixture(scope="module")
def model():
    return effnet_tf.model_fn(TINY, 4, input_shape=(40, 36, 3))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 40, 36, 3)).astype("uint8")


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("onnx") / "model.onnx")
    onnx_file.write(folding.fold(model), path, ABOUT)
    return path


def outputs_of(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = session.run(None, {"images": images.astype("float32")})
    return dict(zip([output.name for output in session.get_outputs()], values))


def test_one_input(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert (images.name, images.type) == ("images", "tensor(float)")
    assert images.shape == ["batch", 40, 36, 3]
    assert {output.name: output.shape for output in session.get_outputs()} == {
        "probabilities": ["batch", 4],
        "logits": ["batch", 4],
    }


def test_it_computes_what_the_model_computes(path, model, images):
    expected = model(images.astype("float32"))
    for count in (5, 1):
        outputs = outputs_of(path, images[:count])
        np.testing.assert_allclose(outputs["probabilities"], expected[:count], atol=1e-5)
        scores = np.exp(outputs["logits"])
        np.testing.assert_allclose(
            scores / scores.sum(-1, keepdims=True), expected[:count], atol=1e-5
        )


def test_openvino(path, model, images):
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = compiled({"images": images.astype("float32")})
    np.testing.assert_allclose(outputs["probabilities"], model(images.astype("float32")), atol=1e-5)


def test_what_it_is_about(path):
    properties = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert About.from_json(properties["effnet_tf"], path) == ABOUT


def test_every_weight_once_and_batch_norm_folded(path, model):
    proto = onnx.load(path)
    weights = sum(np.prod(each.dims, dtype=int) for each in proto.graph.initializer)
    folded = folding.fold(model).count_params()
    assert weights < folded + 50 < model.count_params()  # with shapes and constants
    assert not {node.op_type for node in proto.graph.node} & {"BatchNormalization", "If", "Loop"}


class TestOtherModels:
    def outputs(self, network, folder, images):
        onnx_file.write(folding.fold(network), str(folder / "x.onnx"), About("x"))
        return outputs_of(str(folder / "x.onnx"), images)

    def test_logits(self, images, tmp_path):
        network = effnet_tf.model_fn(
            TINY, 3, classifier_activation=None, input_shape=(None, None, 3)
        )
        outputs = self.outputs(network, tmp_path, images)
        assert list(outputs) == ["logits"]
        np.testing.assert_allclose(outputs["logits"], network(images.astype("float32")), atol=1e-5)

    @pytest.mark.parametrize(
        "ends",
        [
            lambda: [keras.layers.Dense(1, "sigmoid")],
            lambda: [keras.layers.Dense(3), keras.layers.Activation("softmax")],
            lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
        ],
    )
    def test_foreign_classifiers(self, images, tmp_path, ends):
        base = effnet_tf.model_fn(TINY, include_top=False, input_shape=(40, 36, 3), pooling="avg")
        network = keras.Sequential([keras.Input((40, 36, 3)), base, *ends()])
        outputs = self.outputs(network, tmp_path, images)
        assert set(outputs) == {"probabilities", "logits"}
        np.testing.assert_allclose(
            outputs["probabilities"], network(images.astype("float32")), atol=1e-5
        )
        assert np.abs(outputs["logits"] - outputs["probabilities"]).max() > 0.01

    def test_several_outputs(self, images, tmp_path):
        network = effnet_tf.feature_extractor(TINY, ["P1", "P2"], input_shape=(40, 36, 3))
        outputs = self.outputs(network, tmp_path, images)
        for name, expected in network(images.astype("float32")).items():
            np.testing.assert_allclose(outputs[name], expected, atol=1e-4)

    def test_no_classifier(self, images, tmp_path):
        network = effnet_tf.model_fn(TINY, include_top=False, input_shape=(40, 36, 3))
        assert list(self.outputs(network, tmp_path, images)) == ["outputs"]


class TestRefused:
    def test_two_inputs(self, tmp_path):
        two = [keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")]
        network = folding.fold(keras.Model(two, keras.layers.Add()(two)))
        path = str(tmp_path / "x")
        onnx_file.write(network, path, ABOUT)
        found = [each.name for each in onnxruntime.InferenceSession(path).get_inputs()]
        assert sorted(found) == ["left", "right"]

    def test_missing_packages(self, model, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "tf2onnx", None)
        with pytest.raises(InputError, match=r"needs tf2onnx, which is not installed: .*\[onnx\]"):
            onnx_file.write(folding.fold(model), str(tmp_path / "x"), ABOUT)

    def test_eager_constants(self, tmp_path, images):
        inputs = keras.Input((40, 36, 3))
        x = EagerScale()(inputs)
        with pytest.raises(InputError, match="eager tensor"):
            onnx_file.write(folding.fold(keras.Model(inputs, x)), str(tmp_path / "x.onnx"), ABOUT)


@keras.saving.register_keras_serializable(package="test_onnx")
class EagerScale(keras.layers.Layer):
    def build(self, shape):
        self.factor = keras.ops.convert_to_tensor([1.0, 2.0, 3.0])

    def call(self, inputs):
        return inputs * self.factor


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["b0", "lite0", "edgetpu-s"])
def test_whole_variants(variant, tmp_path):
    network = effnet_tf.model_fn(variant)
    images = np.random.default_rng(0).integers(0, 256, (2, *network.input_shape[1:]))
    onnx_file.write(folding.fold(network), str(tmp_path / "x.onnx"), About(variant))
    np.testing.assert_allclose(
        outputs_of(str(tmp_path / "x.onnx"), images)["probabilities"],
        network(images.astype("float32")),
        atol=1e-5,
    )
