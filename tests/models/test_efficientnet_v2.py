"""EfficientNetV2 in both forms, beside keras.applications'."""

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import variants
from effnet_tf.layers import allow_depth
from effnet_tf.models import applications
from effnet_tf.weights import pixels
from tests.helpers import tiny_net, tiny_v2

IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 48, 33, 3)).astype("float32")
SHAPE = (48, 33, 3)
CONSTRUCTORS = [name for name in variants.EFFICIENTNETS_V2 if name != "EfficientNetV2XL"]


def ours(name="v2-b0", **options):
    keras.backend.clear_session(free_memory=False)
    options = {"num_classes": 3, "input_shape": SHAPE, "flat": True} | options
    return effnet_tf.model_fn(tiny_v2.row(name), **options)


@pytest.fixture(scope="module", params=["v2-b0", "v2-s"])
def pair(request):
    """(theirs, ours with its weights), with the pixels of ImageNet and with others."""
    reference = tiny_v2.theirs(request.param, SHAPE)
    model = ours(request.param)
    model.set_weights(reference.get_weights())
    return reference, model


def test_is_their_graph_layer_for_layer(pair):
    theirs, ours = pair
    assert ours.name == theirs.name
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    for mine, other in zip(ours.layers, theirs.layers):
        assert type(mine) is type(other)
        config, expected = mine.get_config(), other.get_config()
        left_out = {"kernel_initializer", "depthwise_initializer", "bias_initializer", "variance"}
        for key in {*expected} - left_out:
            assert config[key] == expected[key], (mine.name, key)
    assert [weight.path for weight in ours.weights] == [weight.path for weight in theirs.weights]


def test_computes_the_same_as_theirs(pair):
    theirs, ours = pair
    np.testing.assert_allclose(ours(IMAGES), theirs(IMAGES), rtol=1e-5)


def test_both_forms_compute_the_same(pair, tmp_path):
    theirs, ours = pair
    theirs.save(tmp_path / "theirs.keras")
    blocks = effnet_tf.model_fn(
        tiny_v2.row(ours.name.removeprefix("efficientnet")), 3, input_shape=SHAPE
    )
    assert effnet_tf.load_weights(blocks, tmp_path / "theirs.keras").exact
    np.testing.assert_allclose(blocks(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-6)


class TestPixels:
    """Their constants are settings of the layers, and come with the weights nevertheless."""

    @pytest.mark.parametrize(
        "name, constants",
        [("v2-b0", ([10.0, 20.0, 30.0], [4.0, 5.0, 6.0])), ("v2-s", ([127.5] * 3, [127.5] * 3))],
    )
    def test_weights_bring_theirs(self, name, constants, tmp_path):
        model = ours(name, classifier_activation=None)
        answer = tf.function(model)
        before = answer(IMAGES)
        model.predict_function = answer  # traced with the old ones
        assert pixels.set_constants(model, constants)
        assert model.predict_function is None
        expected = np.asarray(model(IMAGES))
        assert np.abs(expected - before).max() > 1e-4
        model.save(tmp_path / "a.keras")
        again = keras.saving.load_model(tmp_path / "a.keras")
        np.testing.assert_allclose(again(IMAGES), expected, rtol=1e-5)
        other = ours(name, flat=False, classifier_activation=None)
        report = effnet_tf.load_weights(other, tmp_path / "a.keras")
        for each in (model, other):
            np.testing.assert_allclose(pixels.constants_of(each), constants, rtol=1e-5)
        np.testing.assert_allclose(other(IMAGES), expected, rtol=1e-3, atol=1e-4)
        assert len(report.notes) == 1

    def test_what_stands_before_is_counted_in(self):
        inputs = keras.Input(SHAPE)
        model = ours(
            input_tensor=keras.layers.Rescaling(255.0, name="mine")(inputs), input_shape=None
        )
        pixels.set_constants(model, ([0.5] * 3, [0.5] * 3))
        np.testing.assert_allclose(pixels.constants_of(model), np.full((2, 3), 0.5), rtol=1e-5)

    def test_scaled_images_are_noticed(self):
        with pytest.warns(UserWarning, match="as if scaled to"):
            ours("v2-s")(IMAGES / 255)

    def test_without_preprocessing_they_are_the_callers(self):
        keras.backend.clear_session(free_memory=False)
        plain = applications._plain_constructor("tiny", tiny_v2.row())
        build = applications._with_include_preprocessing(plain, tiny_v2.row())
        model = build(weights=None, include_preprocessing=False, include_top=False)
        assert model.layers[1].name == "stem_conv"
        assert pixels.constants_of(model) is None


class TestParts:
    def test_endpoints(self):
        names = ("stem", "reduction_1", "reduction_2", "reduction_2/expansion", "reduction_3")
        model = effnet_tf.feature_extractor(tiny_v2.row(), names, input_shape=SHAPE)
        assert {name: tuple(x.shape[1:]) for name, x in model.output.items()} == {
            "stem": (24, 17, 8),
            "reduction_1": (24, 17, 8),
            "reduction_2": (12, 9, 16),
            "reduction_2/expansion": (12, 9, 64),
            "reduction_3": (6, 5, 16),
        }
        with pytest.raises(effnet_tf.InputError, match="has no 'reduction_1/expansion'"):
            effnet_tf.feature_extractor(tiny_v2.row(), "reduction_1/expansion", input_shape=SHAPE)

    @pytest.mark.parametrize("flat", [False, True])
    def test_what_trains(self, flat):
        model = ours(flat=flat)
        effnet_tf.set_trainable(model, "stage_3")
        training = {weight.path.partition("/")[0][:6] for weight in model.trainable_weights}
        assert training - {"top_bn"} == {"block3", "top_co", "predic"}
        assert variants.stage_of("block3a_dwconv2") == "stage_3"


class TestConstructors:
    @pytest.mark.parametrize("name", CONSTRUCTORS)
    def test_have_the_arguments_of_keras_applications(self, name):
        ours = inspect.signature(getattr(effnet_tf, name)).parameters
        theirs = inspect.signature(getattr(keras.applications, name)).parameters
        assert list(ours)[: len(theirs)] == list(theirs)
        for argument in theirs:
            assert ours[argument].default == theirs[argument].default
            assert ours[argument].kind == theirs[argument].kind
        more = list(inspect.signature(effnet_tf.EfficientNetB0).parameters)[-5:]
        assert list(ours)[len(theirs) :] == more

    def test_of_the_one_that_they_lack(self):
        ours = inspect.signature(effnet_tf.EfficientNetV2XL).parameters
        others = inspect.signature(effnet_tf.EfficientNetV2L).parameters
        assert list(ours) == list(others)
        assert ours["name"].default == "efficientnetv2-xl"
        assert ours["weights"].default == "imagenet21k-ft1k"  # there are none of ImageNet alone

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["EfficientNetV2B0", "EfficientNetV2S"])
    def test_build_their_graph(self, name):
        built = []
        for module in (keras.applications, effnet_tf):
            keras.backend.clear_session()
            built.append(getattr(module, name)(weights=None, input_shape=(64, 65, 3), classes=5))
        theirs, ours = built
        assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
        assert [each.path for each in ours.weights] == [each.path for each in theirs.weights]
        tiny_net.randomise_batch_norm(theirs)
        ours.set_weights(theirs.get_weights())
        images = np.random.default_rng(0).uniform(0, 255, (2, 64, 65, 3)).astype("float32")
        np.testing.assert_allclose(ours(images), theirs(images), rtol=1e-4)


def test_python_is_told_how_deep_the_graph_is(monkeypatch):
    """Keras walks it by functions that call themselves, a call for each layer."""
    monkeypatch.setattr(sys, "getrecursionlimit", lambda: 1000)
    limits = []
    monkeypatch.setattr(sys, "setrecursionlimit", limits.append)
    allow_depth(400)
    assert limits == []
    allow_depth(1500)
    assert limits == [4000]


@pytest.mark.slow
def test_the_deepest_is_built_flat_copied_and_loaded(tmp_path):
    keras.backend.clear_session()
    model = effnet_tf.EfficientNetV2XL(weights=None, include_top=False, input_shape=(32, 32, 3))
    assert len(keras.models.clone_model(model).layers) == len(model.layers) > 1000
    model.save(tmp_path / "xl.keras")
    code = f"import effnet_tf; print(len(effnet_tf.load_model('{tmp_path}/xl.keras').layers))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(len(model.layers)), done.stderr


@pytest.mark.slow
def test_drop_rates_of_theirs_overshoot_and_ours_do_not():
    """Theirs ramps over the repeats before scaling."""
    found = []
    for module in (keras.applications, effnet_tf):
        keras.backend.clear_session(free_memory=False)
        model = module.EfficientNetV2B1(weights=None, include_top=False, input_shape=(32, 32, 3))
        drops = [layer.rate for layer in model.layers if layer.name.endswith("_drop")]
        found.append(round(max(drops), 4))
    assert found == [0.2476, 0.1926]
