"""Our .tflite files in programs of others: LiteRT, OpenVINO and MediaPipe, where installed.

    pip install -e '.[clients]'

LiteRT.js, in browsers: docs/litert_js.md.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import export
from effnet_tf.export.about import About
from tests.helpers import tiny_net

KINDS = {  # name: (options of to_tflite, largest difference of a probability from Keras)
    "none": ({}, 1e-4),
    "float16": ({"quantize": "float16"}, 2e-3),
    "weights8": ({"quantize": "weights8"}, 0.03),
    "dynamic": ({"quantize": "dynamic"}, 0.1),
    "int8": ({"quantize": "int8"}, 0.15),
    "int16x8": ({"quantize": "int16x8"}, 0.05),
    "int8-int8": ({"quantize": "int8", "io": "int8"}, 0.15),
    "int8-uint8": ({"quantize": "int8", "io": "uint8"}, 0.15),
    "none-uint8": ({"io": "uint8"}, 1e-4),
    "weights8-uint8": ({"quantize": "weights8", "io": "uint8"}, 0.03),
    "none-batch2": ({"batch": 2}, 1e-4),
}
QUICK = ("none", "float16", "weights8", "int8-uint8")  # the others are slow tests
FULLY_ACCELERATED = ("none", "float16", "weights8")


@dataclasses.dataclass(frozen=True)
class Case:
    """A written file and what it should say."""

    path: str
    images: np.ndarray  # as many as its batch, uint8
    wanted: np.ndarray  # Keras' probabilities
    names: tuple
    tolerance: float

    def check(self, scores):
        """Compares probabilities with Keras'."""
        assert np.isfinite(scores).all()
        np.testing.assert_allclose(scores, self.wanted, atol=self.tolerance)
        assert np.ptp(self.wanted) > 0.05  # scores that are all the same prove nothing


def write(folder, model, kind, calibration):
    """Writes a model as a kind; returns its `Case`."""
    options, tolerance = KINDS[kind]
    names = tuple(f"Klasse ä{number}" for number in range(model.output_shape[-1]))
    path = str(folder / f"{kind}.tflite")
    batch = options.get("batch", 1)
    export.to_tflite(
        model,
        path,
        calibration=calibration,
        verify_with=calibration[:4],
        min_sqnr=-100,
        about=About("tiny", class_names=names),
        **{"quantize": "none", **options},
    )
    images = calibration[:batch]
    return Case(path, images, model.predict(images.astype("float32"), verbose=0), names, tolerance)


def live(variant, classes, shape):
    """Returns a seeded model whose batch norm fits its activations, so that scores differ."""
    tf.keras.utils.set_random_seed(3)
    model = effnet_tf.model_fn(variant, classes, input_shape=(*shape, 3))
    images = coloured(16, shape)
    for layer in model._flatten_layers():
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images.astype("float32"), training=True)
    kernel, bias = model.layers[-1].get_weights() if model.layers[-1].weights else (None, None)
    if kernel is not None:
        model.layers[-1].set_weights([kernel * 3, bias])
    return model


def coloured(count, shape):
    """Returns (count, H, W, 3) uint8 images of smooth coloured blobs."""
    coarse = np.random.default_rng(5).uniform(0, 255, (count, 4, 4, 3))
    return tf.image.resize(coarse, shape).numpy().round().astype("uint8")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A function from a kind to the tiny net's `Case`; each is written once."""
    with tiny_net.registered():
        model = live("tiny", 4, (36, 40))
    images, known = coloured(16, (36, 40)), {}
    folder = tmp_path_factory.mktemp("clients")

    def case(kind):
        if kind not in known:
            known[kind] = write(folder, model, kind, images)
        return known[kind]

    return case


def quantized(images, scale, zero, dtype):
    if not scale:
        return images.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(images / scale) + zero, limits.min, limits.max).astype(dtype)


def dequantized(scores, scale, zero):
    return (scores.astype("float32") - zero) * scale if scale else scores


def litert(case):
    """Asks LiteRT's Interpreter by signature."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(case.path)
    ((key, names),) = interpreter.get_signature_list().items()
    assert key == "serving_default"
    assert names == {"inputs": ["images"], "outputs": ["probabilities"]}
    runner = interpreter.get_signature_runner(key)
    image = runner.get_input_details()["images"]
    score = runner.get_output_details()["probabilities"]
    found = runner(images=quantized(case.images, *image["quantization"], image["dtype"]))
    return dequantized(found["probabilities"], *score["quantization"])


def openvino(case):
    """Asks OpenVINO, whose parser and kernels are its own."""
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(case.path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    (image,) = compiled.inputs
    details = tf_details(case.path)
    inputs = quantized(case.images, *details[0], details[1])
    assert tuple(image.shape) == inputs.shape
    return dequantized(compiled(inputs)[0], *details[2])


def tf_details(path):
    with pytest.warns(UserWarning, match="deprecated"):
        interpreter = tf.lite.Interpreter(path)
    (image,) = interpreter.get_input_details()
    (score,) = interpreter.get_output_details()
    return image["quantization"], image["dtype"], score["quantization"]


def mediapipe(case):
    """Asks MediaPipe's ImageClassifier; returns (1, classes) and checks the names."""
    import mediapipe

    vision = mediapipe.tasks.vision
    options = vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_path=case.path)
    )
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=case.images[0])
    with vision.ImageClassifier.create_from_options(options) as classifier:
        (found,) = classifier.classify(image).classifications
    scores = np.zeros((1, len(case.names)))
    for category in found.categories:
        assert category.category_name == case.names[category.index]
        scores[0, category.index] = category.score
    return scores


def compiled(path):
    """Opens a file with LiteRT's CompiledModel on the CPU."""
    from ai_edge_litert.compiled_model import CompiledModel

    return CompiledModel.from_file(path)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in KINDS]
)
class TestTiny:
    def test_litert(self, kind, cases):
        pytest.importorskip("ai_edge_litert")
        cases(kind).check(litert(cases(kind)))

    def test_openvino(self, kind, cases):
        pytest.importorskip("openvino")
        cases(kind).check(openvino(cases(kind)))

    def test_mediapipe(self, kind, cases):
        pytest.importorskip("mediapipe")
        if kind == "int8-int8":
            with pytest.raises((ValueError, RuntimeError), match="got INT8"):
                mediapipe(cases(kind))
        elif kind == "none-batch2":
            with pytest.raises((ValueError, RuntimeError), match="should have dimensions 1 x"):
                mediapipe(cases(kind))
        else:
            cases(kind).check(mediapipe(cases(kind)))

    def test_compiled_model(self, kind, cases):
        pytest.importorskip("ai_edge_litert")
        case = cases(kind)
        model = compiled(case.path)
        if kind in FULLY_ACCELERATED:
            assert model.is_fully_accelerated()
        if kind.startswith("int"):
            return  # its Python interface tells no quantisation
        inputs, outputs = model.create_input_buffers(0), model.create_output_buffers(0)
        dtype = "uint8" if kind.endswith("uint8") else "float32"
        inputs[0].write(case.images.astype(dtype))
        model.run_by_index(0, inputs, outputs)
        scores = outputs[0].read(case.wanted.size, np.float32)
        case.check(np.asarray(scores).reshape(case.wanted.shape))


SIZES = [
    ("b0", (64, 64)),
    ("b0", (224, 224)),
    ("lite0", (64, 64)),
    ("lite0", (224, 224)),
    ("edgetpu-s", (64, 64)),
    ("edgetpu-s", (224, 224)),
]


@pytest.mark.slow
@pytest.mark.parametrize("variant, shape", SIZES, ids=str)
def test_variants(variant, shape, tmp_path):
    """All kinds in all clients: they compute what TensorFlow's interpreter does."""
    pytest.importorskip("ai_edge_litert")
    model, images = live(variant, 10, shape), coloured(8, shape)
    for kind in KINDS:
        case = write(tmp_path, model, kind, images)
        case = dataclasses.replace(
            case,
            wanted=export.load(case.path)(case.images),
            tolerance=0.15 if "int" in kind else 2e-3,
        )
        case.check(litert(case))
        if kind in FULLY_ACCELERATED:
            assert compiled(case.path).is_fully_accelerated()
        scores = openvino(case)
        if kind in FULLY_ACCELERATED:
            case.check(scores)
        # It rounds integers elsewhere than TFLite, and activations of "dynamic" not at all: on
        # a deep network of random weights, 2 dB in integers, nothing is left to compare.
        assert np.isfinite(scores).all() and scores.shape == case.wanted.shape
        if kind not in ("int8-int8", "none-batch2"):
            case.check(mediapipe(case))
