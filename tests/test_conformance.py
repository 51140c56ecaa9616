"""One property, one test, over every public layer and the small enough variants.

`LAYERS` and `MODELS` are the tables; a public layer, constructor or name that is in
none of the lists fails `test_the_tables_are_complete`. Files that earlier commits wrote are in
test_held_files.py; that one device and several train the same, in train/test_strategy.py.
"""

import copy
import doctest
import importlib
import inspect
import json
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf.variants import CONSTRUCTORS, describe_separable
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

TESTS = pathlib.Path(__file__).parent

# name -> (make, input shape, expected output shape)
LAYERS = {
    "BatchNorm": (lambda **k: effnet_tf.BatchNorm("inference", **k), (4, 6, 6, 8), (4, 6, 6, 8)),
    "DropConnect": (
        lambda **k: effnet_tf.DropConnect(0.3, seed=1, **k),
        (4, 6, 6, 8),
        (4, 6, 6, 8),
    ),
    "Dropout": (lambda **k: effnet_tf.Dropout(0.3, seed=1, **k), (4, 8), (4, 8)),
    "Normalize": (
        lambda **k: effnet_tf.Normalize([1.0, 2.0], [3.0, 4.0], **k),
        (4, 6, 6, 2),
        (4, 6, 6, 2),
    ),
    "SqueezeExcite": (lambda **k: effnet_tf.SqueezeExcite(2, **k), (4, 6, 6, 8), (4, 6, 6, 8)),
    "MBConv": (
        lambda **k: effnet_tf.MBConv(12, 16, 5, 2, 2, 0.1, **k),
        (4, 7, 6, 8),
        (4, 4, 3, 12),
    ),
    "CondConv": (
        lambda **k: effnet_tf.CondConv(12, 3, experts=3, strides=2, **k),
        (4, 7, 6, 8),
        (4, 4, 3, 12),
    ),
    "DepthwiseCondConv": (
        lambda **k: effnet_tf.DepthwiseCondConv(5, experts=3, strides=2, **k),
        (4, 7, 6, 8),
        (4, 4, 3, 8),
    ),
    "Routing": (lambda **k: effnet_tf.Routing(3, **k), (4, 7, 6, 8), (4, 3)),
    "DescribedBlock": (
        lambda **k: effnet_tf.DescribedBlock(
            describe_separable(8, 8, 12, strides=2, se_filters=2, project_activation="relu6"), **k
        ),
        (4, 7, 6, 8),
        (4, 4, 3, 12),
    ),
    "FusedMBConv": (
        lambda **k: effnet_tf.FusedMBConv(8, 16, 3, 1, 0, 0.1, "relu", **k),
        (4, 7, 6, 8),
        (4, 7, 6, 8),
    ),
}

# The properties of models: small ones always, the others with `make test-all`. Those that
# are missing take minutes and gigabytes each and are the same code with other numbers.
ALWAYS = ("EfficientNetB0", "EfficientNetLite0", "EfficientNetEdgeTPUSmall")
SLOW = (
    "EfficientNetB1",
    "EfficientNetB2",
    "EfficientNetB3",
    "EfficientNetLite1",
    "EfficientNetLite2",
    "EfficientNetLite3",
    "EfficientNetLite4",
    "EfficientNetEdgeTPUMedium",
    "EfficientNetEdgeTPULarge",
    "EfficientNetV2B0",
    "EfficientNetV2B1",
    "EfficientNetV2B2",
    "EfficientNetV2B3",
    "EfficientNetV2S",
    "EfficientNetCondConvB0_4E",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "ResNet50",
)
TOO_LARGE = (
    "EfficientNetB4",
    "EfficientNetB5",
    "EfficientNetB6",
    "EfficientNetB7",
    "EfficientNetB8",
    "EfficientNetL2",
    "EfficientNetCondConvB0_8E",
    "EfficientNetCondConvB0_8EDepth",
    "EfficientNetV2M",
    "EfficientNetV2L",
    "EfficientNetV2XL",
)
MODELS = [*ALWAYS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]

# Public names that are no layer and no constructor, and the tests that are about them.
OTHERS = {
    "variants": (
        "VARIANTS",
        "Block",
        "CompoundScaling",
        "Cost",
        "Stage",
        "Variant",
        "blocks",
        "cost",
    ),
    "catalog": ("list_models",),
    "recipes": ("RECIPES", "Recipe"),
    "optim": (
        "AdamW",
        "LARS",
        "RMSprop",
        "SGD",
        "WarmupConstant",
        "WarmupCosine",
        "WarmupPolynomial",
        "WarmupStaircase",
        "optim",
    ),
    "models": (
        "decode_predictions",
        "feature_extractor",
        "load_model",
        "load_run",
        "model_fn",
        "preprocess_input",
        "set_trainable",
    ),
    "layers": ("set_remat",),
    "weights": ("LoadReport", "load_weights"),
    "data": ("data",),
    "export": ("export",),
    "inference": ("inference",),
    "scaling": ("scaling",),
    "search": ("search",),
    "train": ("train",),
    "test_errors.py": ("InputError",),
    "test_missing_packages.py": ("MissingPackage", "MissingTensorFlow"),
}


def test_the_tables_are_complete():
    listed = [
        *LAYERS,
        *ALWAYS,
        *SLOW,
        *TOO_LARGE,
        *(name for names in OTHERS.values() for name in names),
    ]
    assert sorted(listed) == sorted(effnet_tf.__all__)
    assert sorted([*ALWAYS, *SLOW, *TOO_LARGE]) == sorted(CONSTRUCTORS)
    assert {name for name in effnet_tf.layers.__all__ if is_layer(name)} == set(LAYERS)


def is_layer(name):
    value = getattr(effnet_tf.layers, name)
    return inspect.isclass(value) and issubclass(value, keras.layers.Layer)


@pytest.mark.parametrize("place", OTHERS)
def test_the_others_have_tests(place):
    assert (TESTS / place).exists()


@pytest.mark.parametrize("name", effnet_tf.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(effnet_tf, name)
    if callable(value) or inspect.ismodule(value):
        assert inspect.getdoc(value)


def test_what_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'EfficientNetB9'"):
        effnet_tf.EfficientNetB9


def inputs_for(shape, dtype="float32"):
    return tf.cast(np.random.default_rng(0).uniform(0, 1, shape), dtype)


def outputs_equal(one, other, inputs):
    np.testing.assert_array_equal(at_inference(one, inputs), at_inference(other, inputs))


def at_inference(layer, inputs):
    return layer(inputs, training=False) if takes_training(layer) else layer(inputs)


def takes_training(layer):
    return "training" in inspect.signature(layer.call).parameters


def modules():
    """The names of every module of the library but the programs."""
    found = pkgutil.walk_packages(effnet_tf.__path__, "effnet_tf.")
    return sorted(each.name for each in found if not each.name.endswith("__main__"))


class LooseOutput(doctest.OutputChecker):
    """What an example shows must be true; an example that shows nothing must run."""

    def check_output(self, want, got, optionflags):
        return not want or super().check_output(want, got, optionflags)


@pytest.mark.parametrize("module", modules())
def test_examples_in_docstrings_run(module, tmp_path, monkeypatch):
    """With the public names, those of their module, np, keras, and a few small images."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(module)
    images = np.zeros((2, 64, 64, 3), "uint8")
    public = {name: getattr(effnet_tf, name) for name in effnet_tf.__all__}
    names = {**public, **vars(module), "np": np, "keras": keras, "images": images}
    names["effnet_tf"] = effnet_tf
    runner = doctest.DocTestRunner(LooseOutput(), optionflags=doctest.ELLIPSIS, verbose=False)
    said = []
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs=names):
        runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_examples_are_found():
    """Else a change of their form would have all of them pass."""
    finder, found = doctest.DocTestFinder(), 0
    for name in modules():
        module = importlib.import_module(name)
        found += sum(len(each.examples) for each in finder.find(module, globs={}))
    sources = pathlib.Path(effnet_tf.__file__).parent.rglob("*.py")
    assert found == sum(path.read_text().count(">>> ") for path in sources) > 10


@pytest.mark.parametrize("name", LAYERS)
class TestLayer:
    def test_config_is_plain_json_and_round_trips(self, name):
        make, shape, _ = LAYERS[name]
        layer = make(name="x")
        config = json.loads(json.dumps(layer.get_config()))
        again = type(layer).from_config(config)
        assert again.get_config() == layer.get_config()
        arguments = set(inspect.signature(type(layer).__init__).parameters) - {"self", "kwargs"}
        assert arguments <= set(config)
        serialized = keras.saving.serialize_keras_object(layer)
        assert serialized["registered_name"] == f"effnet_tf>{name}"
        assert type(keras.saving.deserialize_keras_object(serialized)) is type(layer)

    def test_output_shape_is_declared_and_true(self, name):
        make, shape, expected = LAYERS[name]
        layer = make()
        # Keras' own Dropout declares its shape; ours is one.
        owner = next(kind for kind in type(layer).__mro__ if "compute_output_shape" in vars(kind))
        assert owner is not keras.layers.Layer
        assert tuple(layer.compute_output_shape(shape)) == expected
        assert tuple(layer.compute_output_shape((None, *shape[1:]))) == (None, *expected[1:])
        assert layer(inputs_for(shape)).shape == expected

    def test_unknown_sides_stay_unknown(self, name):
        make, shape, expected = LAYERS[name]
        if len(shape) < 4:
            return
        symbolic = make()(keras.Input((None, None, shape[-1])))
        assert symbolic.shape == (*(None,) * (len(expected) - 1), expected[-1])

    def test_keras_file(self, name, tmp_path):
        make, shape, _ = LAYERS[name]
        inputs = keras.Input(shape[1:])
        model = keras.Model(inputs, make()(inputs))
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        outputs_equal(model, again, inputs_for(shape))

    def test_weights_file(self, name, tmp_path):
        make, shape, _ = LAYERS[name]
        models = []
        for _ in range(2):
            inputs = keras.Input(shape[1:])
            models.append(keras.Model(inputs, make(name="x")(inputs)))
        models[0].save_weights(tmp_path / "m.weights.h5")
        models[1].load_weights(tmp_path / "m.weights.h5")
        outputs_equal(*models, inputs_for(shape))

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float32"])
    def test_forward_and_backward_under_policy(self, name, policy):
        make, shape, _ = LAYERS[name]
        layer, inputs = make(dtype=policy), inputs_for(shape)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True) if takes_training(layer) else layer(inputs)
            total = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
        assert outputs.dtype.name == keras.DTypePolicy(policy).compute_dtype
        sources = [inputs, *(weight.value for weight in layer.trainable_weights)]
        for gradient in tape.gradient(total, sources):
            assert gradient is not None and np.isfinite(gradient).all()
        assert {w.dtype for w in layer.weights} <= {"float32"}

    def test_saved_model(self, name, tmp_path):
        make, shape, _ = LAYERS[name]
        inputs = keras.Input(shape[1:])
        model = keras.Model(inputs, make()(inputs))
        model.export(tmp_path / "saved", verbose=False)
        loaded = tf.saved_model.load(tmp_path / "saved")
        np.testing.assert_allclose(
            model(inputs_for(shape)), loaded.serve(inputs_for(shape)), rtol=1e-5, atol=1e-6
        )

    def test_xla_computes_the_same(self, name):
        make, shape, _ = LAYERS[name]
        layer, inputs = make(), inputs_for(shape)
        plain = at_inference(layer, inputs)
        compiled = tf.function(lambda x: at_inference(layer, x), jit_compile=True)
        np.testing.assert_allclose(compiled(inputs), plain, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("devices", ["one", "two"])
    def test_every_strategy_computes_the_same(self, name, devices, mirrored):
        """Weights made under a strategy, each replica with the batch of one device."""
        make, shape, _ = LAYERS[name]
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0") if devices == "one" else mirrored
        plain, inputs = make(), inputs_for(shape)
        expected = at_inference(plain, inputs)
        with strategy.scope():
            layer = make()
            layer.build(shape)
        layer.set_weights(plain.get_weights())
        answer = strategy.run(tf.function(lambda: at_inference(layer, inputs)))
        for replica in strategy.experimental_local_results(answer):
            np.testing.assert_allclose(replica, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("devices", ["one", "two"])
    def test_every_strategy_trains(self, name, devices, mirrored):
        """Gradients arrive at the inputs of every replica, finite and equal where they must be."""
        make, shape, _ = LAYERS[name]
        strategy = tf.distribute.OneDeviceStrategy("/cpu:0") if devices == "one" else mirrored
        inputs = inputs_for(shape)
        with strategy.scope():
            layer = make()
            layer.build(shape)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                outputs = layer(inputs, training=True) if takes_training(layer) else layer(inputs)
                total = tf.reduce_sum(outputs**2)
            sources = [inputs, *(weight.value for weight in layer.trainable_weights)]
            return tape.gradient(total, sources)

        for gradient in strategy.run(step):
            for replica in strategy.experimental_local_results(gradient):
                assert replica is not None and np.isfinite(replica).all()

    def test_docstring_sections(self, name):
        sections = re.findall(
            r"^(\w[\w ]+):$", inspect.getdoc(getattr(effnet_tf, name)), re.MULTILINE
        )
        expected = ["Args", "Call arguments", "Input shape", "Output shape", "Example"]
        assert [section for section in sections if section in expected] == expected


@pytest.fixture(scope="module")
def build():
    """Builds each small classifier once: (N, 33, 48, 3) -> 4 logits."""
    cache = {}

    def get(name):
        if name not in cache:
            cache.clear()  # one at a time in memory
            keras.utils.set_random_seed(0)
            cache[name] = getattr(effnet_tf, name)(
                weights=None, input_shape=(33, 48, 3), classes=4, classifier_activation=None
            )
        return cache[name]

    return get


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 33, 48, 3)).astype("uint8")


@pytest.mark.parametrize("name", MODELS, scope="module")  # all tests of one, then of the next
class TestModel:
    def test_config_is_plain_json_and_round_trips(self, name, build):
        model = build(name)
        config = json.loads(json.dumps(model.get_config()))
        again = keras.Model.from_config(copy.deepcopy(config))  # Keras empties what it is given
        assert json.loads(json.dumps(again.get_config())) == config
        assert [w.shape for w in again.weights] == [w.shape for w in model.weights]

    def test_keras_file(self, name, build, tmp_path):
        build(name).save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        np.testing.assert_array_equal(build(name)(IMAGES), again(IMAGES))

    def test_weights_file(self, name, build, tmp_path):
        model = build(name)
        model.save_weights(tmp_path / "m.weights.h5")
        before, expected = model.get_weights(), np.asarray(model(IMAGES))
        model.set_weights([np.zeros_like(w) for w in before])
        model.load_weights(tmp_path / "m.weights.h5")
        np.testing.assert_array_equal(model(IMAGES), expected)

    def test_mixed_bfloat16_forward_and_backward(self, name):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = getattr(effnet_tf, name)(
                weights=None, input_shape=(33, 48, 3), classes=4, classifier_activation=None
            )
        finally:
            keras.config.set_dtype_policy("float32")
        with tf.GradientTape() as tape:
            logits = model(IMAGES, training=True)
            loss = tf.reduce_mean(logits**2)
        assert logits.dtype == tf.float32
        assert model.get_layer("avg_pool").input.dtype == "bfloat16"  # MobileNetV1 has no head
        # Keras' Normalization counts what it was adapted to.
        dtypes = {w.path.rpartition("/")[2]: w.dtype for w in model.weights}
        assert dtypes.pop("count") == "int64" and set(dtypes.values()) == {"float32"}
        for gradient in tape.gradient(loss, [v.value for v in model.trainable_weights]):
            assert gradient is not None and np.isfinite(gradient).all()

    @pytest.mark.usefixtures("in_this_process")
    def test_saved_model(self, name, build, tmp_path):
        report = effnet_tf.export.to_saved_model(build(name), str(tmp_path / "saved"))
        assert report.largest_difference < 1e-4

    def test_logits_are_float32(self, name, build):
        assert build(name)(IMAGES).dtype == tf.float32

    def test_docstring_sections(self, name):
        doc = inspect.getdoc(getattr(effnet_tf, name))
        assert re.findall(r"^(\w+):$", doc, re.MULTILINE) == ["Args", "Returns", "Raises"]
        for argument in inspect.signature(getattr(effnet_tf, name)).parameters:
            assert f"    {argument}: " in doc
