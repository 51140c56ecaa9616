"""flat.py: the graph of keras.applications, of Keras' own layers."""

import dataclasses
import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from tests.helpers import tiny_net

TINY = effnet_tf.CompoundScaling().variant(-8)
LITE = effnet_tf.CompoundScaling().variant(-8, base="lite0")
EDGETPU = effnet_tf.CompoundScaling().variant(-8, base="edgetpu-s")
SYMMETRIC = dataclasses.replace(EDGETPU, padding="symmetric", batch_norm_epsilon=1e-5)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")


def tiny(variant=TINY, flat=True, **arguments):
    keras.utils.set_random_seed(0)
    arguments = {"input_shape": (64, 64, 3), "num_classes": 3} | arguments
    return effnet_tf.model_fn(variant, flat=flat, **arguments)


def deviation(found, expected):
    """The largest difference, in standard deviations of what is expected."""
    return np.abs(np.asarray(found) - np.asarray(expected)).max() / np.std(expected)


@pytest.fixture(scope="module")
def pair():
    """B0 of keras.applications and ours, as fresh programs build them, with equal weights."""
    built = []
    for build in (keras.applications.EfficientNetB0, effnet_tf.EfficientNetB0):
        keras.backend.clear_session()
        built.append(build(weights=None, input_shape=(75, 64, 3), classes=7))
    theirs, ours = built
    tiny_net.randomise_batch_norm(theirs)
    for layer in theirs.layers:
        if not isinstance(layer, keras.layers.Normalization):  # theirs only divides by 255
            ours.get_layer(layer.name).set_weights(layer.get_weights())
    constants = [np.zeros(3), np.ones(3), np.zeros(())]
    ours.get_layer("normalization").set_weights(constants)
    return theirs, ours


class TestIsTheGraphOfKerasApplications:
    def test_layer_for_layer(self, pair):
        theirs, ours = pair
        assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
        for mine, other in zip(ours.layers, theirs.layers):
            assert type(mine) is type(other)
            config, expected = mine.get_config(), other.get_config()
            for key in {*expected} - {"kernel_initializer", "depthwise_initializer"}:
                assert config[key] == expected[key], (mine.name, key)
            assert mine.output.shape == other.output.shape
        assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
        assert ours.count_params() == theirs.count_params()

    def test_computes_the_same(self, pair):
        theirs, ours = pair
        images = np.random.default_rng(0).uniform(0, 255, (2, 75, 64, 3)).astype("float32")
        assert deviation(ours(images), theirs(images)) < 1e-6

    @pytest.mark.parametrize(
        "arguments",
        [
            dict(include_top=False),
            dict(include_top=False, pooling="max", input_shape=(33, 64, 3)),
            dict(drop_connect_rate=0, dropout_rate=0),
        ],
    )
    def test_consists_of_keras_layers_alone(self, arguments):
        for variant in (TINY, LITE, EDGETPU):
            model = tiny(variant, **arguments)
            assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}


@pytest.mark.parametrize("variant", [TINY, LITE, EDGETPU], ids=["b", "lite", "edgetpu"])
class TestBothForms:
    def test_compute_the_same_at_every_size(self, variant):
        flat = tiny(variant, input_shape=(None, None, 3))
        blocks = tiny(variant, flat=False, input_shape=(None, None, 3))
        tiny_net.randomise_batch_norm(blocks)
        for mine, other in zip(flat.weights[3:], blocks.weights[-len(flat.weights) + 3 :]):
            assert mine.shape == other.shape
            mine.assign(other)
        for sides in ((64, 64), (33, 47)):
            still = tiny(variant, input_shape=(*sides, 3))
            still.set_weights(flat.get_weights())
            images = tf.image.resize(IMAGES, sides)
            expected = blocks(images, training=False)
            assert deviation(flat(images, training=False), expected) < 1e-4
            assert deviation(still(images, training=False), expected) < 1e-4


NETWORKS = {"b": TINY, "lite": LITE, "edgetpu": EDGETPU}
ENDINGS = (".keras", ".weights.h5", ".h5")


def files():
    """Yields (network, ending): every ending of one, and one ending of every network."""
    for name, ending in itertools.product(NETWORKS, ENDINGS):
        marks = ()
        if name != "b" and ending != ".keras":
            marks = pytest.mark.slow
        yield pytest.param(name, ending, marks=marks)


@pytest.mark.parametrize(("name", "ending"), files())
@pytest.mark.parametrize("written_flat", [True, False])
def test_both_forms_read_each_others_files(name, ending, written_flat, tmp_path):
    variant = NETWORKS[name]
    saved = tiny_net.randomise_batch_norm(tiny(variant, flat=written_flat))
    path = tmp_path / f"m{ending}"
    (saved.save_weights if ending == ".weights.h5" else saved.save)(path)
    model = tiny(variant, flat=not written_flat, weights=path)
    expected = saved(IMAGES, training=False)
    assert deviation(model(IMAGES, training=False), expected) < 1e-4


class TestSymmetricPadding:
    """Kernels of 3 and 5, fused and depthwise."""

    @pytest.fixture(scope="class")
    def models(self):
        flat = tiny(SYMMETRIC, input_shape=(None, None, 3))
        blocks = tiny(SYMMETRIC, flat=False, input_shape=(None, None, 3))
        tiny_net.randomise_batch_norm(blocks)
        for mine, other in zip(flat.weights[3:], blocks.weights[-len(flat.weights) + 3 :]):
            mine.assign(other)
        return flat, blocks

    @pytest.mark.parametrize("sides", [(64, 64), (47, 34)])
    def test_both_forms_compute_the_same(self, models, sides):
        flat, blocks = models
        still = tiny(SYMMETRIC, input_shape=(*sides, 3))
        still.set_weights(flat.get_weights())
        images = tf.image.resize(IMAGES, sides)
        expected = blocks(images, training=False)
        assert deviation(flat(images, training=False), expected) < 1e-4
        assert deviation(still(images, training=False), expected) < 1e-4

    def test_it_is_not_the_same_as_same(self, models):
        same = tiny(dataclasses.replace(SYMMETRIC, padding="same"))
        same.set_weights(models[0].get_weights())
        expected = models[0](IMAGES, training=False)
        assert deviation(same(IMAGES, training=False), expected) > 0.01

    def test_zeros_are_layers_of_keras_before_strides(self, models):
        zeros = {
            layer.name: layer.padding[0]
            for layer in models[0].layers
            if isinstance(layer, keras.layers.ZeroPadding2D)
        }
        assert zeros == {
            "stem_conv_pad": (1, 1),
            "block2a_expand_conv_pad": (1, 1),
            "block3a_expand_conv_pad": (1, 1),
            "block4a_dwconv_pad": (2, 2),
            "block6a_dwconv_pad": (2, 2),
        }

    @pytest.mark.parametrize("number", [0, 1])
    def test_saved_and_loaded(self, models, number, tmp_path):
        models[number].save(tmp_path / "m.keras")
        again = effnet_tf.load_model(tmp_path / "m.keras")
        expected = models[number](IMAGES, training=False)
        np.testing.assert_array_equal(again(IMAGES, training=False), expected)

    def test_dilated_strides_see_the_same_samples(self, models):
        """Symmetric samples lie where they lay before the stride, at every size."""
        strided, dilated = (
            effnet_tf.feature_extractor(
                dataclasses.replace(SYMMETRIC, se_ratio=0.0),
                "P5",
                output_stride=stride,
                input_shape=(62, 64, 3),
            )
            for stride in (32, 16)
        )
        dilated.set_weights(tiny_net.randomise_batch_norm(strided).get_weights())
        images = tf.image.resize(IMAGES, (62, 64))
        found = dilated(images, training=False)["P5"][:, ::2, ::2]
        assert deviation(found, strided(images, training=False)["P5"]) < 1e-4


def test_drops_and_trains_as_its_rates_say():
    model = tiny(drop_connect_rate=0.4, dropout_rate=0.3, batch_norm_momentum=0.8)
    drops = [layer for layer in model.layers if layer.name.endswith("_drop")]
    blocks = effnet_tf.blocks(TINY, drop_connect_rate=0.4)
    assert [layer.rate for layer in drops] == [
        block.drop_connect_rate for block in blocks if block.drop_connect_rate
    ]
    assert model.get_layer("top_dropout").rate == 0.3
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in norms} == {0.8}


def tiny_under(policy):
    keras.config.set_dtype_policy(policy)
    try:
        return tiny()
    finally:
        keras.config.set_dtype_policy("float32")


def test_means_and_scores_are_float32_under_bfloat16():
    model = tiny_under("mixed_bfloat16")
    assert model.output.dtype == "float32"
    assert model.get_layer("block2a_se_squeeze").output.dtype == "float32"
    assert model.get_layer("top_activation").output.dtype == "bfloat16"


def test_float64_stays_float64():
    model = tiny_under("float64")
    assert {layer.compute_dtype for layer in model.layers} == {"float64"}
    assert model.output.dtype == "float64"


def test_scaled_pixels_are_noticed():
    with pytest.warns(UserWarning, match=r"scaled to \[0, 1\]"):
        tiny()((IMAGES / 255).astype("float32"))


class TestTwoModelsInOneProgram:
    def test_with_other_inputs(self):
        image = tiny(include_top=False, pooling="avg")
        table = keras.Input((7,))
        scaled = keras.layers.Normalization()(table)
        joined = keras.Model(
            [image.input, table], keras.layers.Concatenate()([image.output, scaled])
        )
        assert joined([IMAGES, np.zeros((2, 7))]).shape[0] == 2

    @pytest.mark.parametrize("flat", [True, False])
    def test_with_each_other(self, flat):
        left, right = (
            tiny(include_top=False, pooling="avg", flat=flat, name=name) for name in "lr"
        )
        for layer in right.layers:
            layer.name = "right_" + layer.name
        joined = keras.Model(
            [left.input, right.input], keras.layers.Concatenate()([left.output, right.output])
        )
        assert joined([IMAGES, IMAGES]).shape[0] == 2


def test_expansions_are_what_public_u_nets_tap():
    taps = {
        "reduction_1/expansion": "block2a_expand_activation",
        "P2/expansion": "block3a_expand_activation",
        "reduction_3/expansion": "block4a_expand_activation",
        "P4/expansion": "block6a_expand_activation",
    }
    model = effnet_tf.feature_extractor("b0", [*taps, "P4"], input_shape=(64, 64, 3))
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    inner = keras.Model(model.input, {key: model.get_layer(taps[key]).output for key in taps})
    found, expected = model(IMAGES), inner(IMAGES)
    for key, side, filters in zip(taps, (32, 16, 8, 4), (96, 144, 240, 672)):
        assert found[key].shape == (2, side, side, filters)
        np.testing.assert_array_equal(found[key], expected[key])


def test_a_block_that_strides_where_it_expands_has_no_expansion():
    with pytest.raises(
        effnet_tf.InputError, match="'P1/expansion': .*the block after it does not expand"
    ):
        effnet_tf.feature_extractor("edgetpu-s", "P1/expansion")
    model = effnet_tf.feature_extractor("edgetpu-s", "P3/expansion")
    assert model.output["P3/expansion"].shape[-1] == 48 * 8


def test_a_model_of_blocks_says_where_inner_layers_are():
    model = tiny(flat=False)
    with pytest.raises(effnet_tf.InputError, match="inside a block.*flat=True.*feature_extractor"):
        model.get_layer("block6a_expand_activation")
    with pytest.raises(ValueError, match="No such layer: backbone"):
        model.get_layer("backbone")
    assert model.get_layer("block6a").name == "block6a"


LOAD = """
import pickle, sys
import keras, numpy as np
images, expected = np.load("images.npy"), np.load("expected.npy")
for model in (
    keras.saving.load_model("m.keras"),
    keras.saving.load_model("m.h5"),
    pickle.load(open("m.pickle", "rb")),
    keras.models.model_from_json(open("m.json").read()),
):
    model.load_weights("m.weights.h5")
    found = model(images, training=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
assert not [name for name in sys.modules if name.startswith("effnet_tf")]
"""


def test_a_saved_model_loads_without_this_package(tmp_path):
    import pickle

    model = tiny_net.randomise_batch_norm(tiny(EDGETPU, preprocessing="imagenet"))
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "expected.npy", model(IMAGES, training=False))
    for name in ("m.keras", "m.h5"):
        model.save(tmp_path / name)
    model.save_weights(tmp_path / "m.weights.h5")
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(model))
    (tmp_path / "m.json").write_text(model.to_json())
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
