"""pixels.py, keras_pixels.py: the pixel constants of both forms, whatever carries weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf.weights import keras_pixels, pixels
from tests.helpers import tiny_net

TINY = tiny_net.scaled(-8)
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
INCEPTION = ([127.5] * 3, [127.5] * 3)


def build(flat, preprocessing=True, **options):
    options = {"input_shape": (32, 32, 3), "classifier_activation": None, **options}
    model = effnet_tf.model_fn(TINY, 4, flat=flat, preprocessing=preprocessing, **options)
    return tiny_net.randomise_batch_norm(model)


@pytest.fixture(scope="module", params=[False, True], ids=["blocks", "flat"])
def source(request, tmp_path_factory):
    """(whether it is flat, a network with AdvProp's pixels, what it answers, its folder)."""
    model = build(request.param, "inception")
    folder = tmp_path_factory.mktemp("pixels")
    model.save_weights(folder / "a.weights.h5")
    model.save(folder / "a.keras")
    return request.param, model, np.asarray(model(IMAGES)), folder


def set_weights(model, source, _):
    model.set_weights(source.get_weights())


def restore(model, source, folder):
    path = tf.train.Checkpoint(model=source).save(str(folder / "checkpoint"))
    tf.train.Checkpoint(model=model).restore(path).assert_existing_objects_matched()


def load_by_keras(model, _, folder):
    model.load_weights(folder / "a.weights.h5")


def load_by_ours(model, _, folder):
    effnet_tf.load_weights(model, folder / "a.keras")


@pytest.fixture(scope="module")
def traced(source):
    """(another network, one for videos around it, its weights): both are traced with these."""
    video = keras.Input((1, 32, 32, 3))
    other = build(source[0])
    outer = keras.Model(video, keras.layers.TimeDistributed(other)(video))
    for each, images in ((other, IMAGES), (outer, IMAGES[:, None])):
        each.predict(images, verbose=0)
    return other, outer, other.get_weights()


@pytest.mark.parametrize("carry", [set_weights, restore, load_by_keras, load_by_ours])
def test_whatever_carries_weights_carries_the_constants(source, traced, carry):
    _, model, answer, folder = source
    other, outer, before = traced
    other.set_weights(before)
    assert pixels.constants_of(other) != INCEPTION
    carry(other, model, folder)
    assert pixels.constants_of(other) == INCEPTION
    np.testing.assert_allclose(other.predict(IMAGES, verbose=0), answer, rtol=1e-4, atol=1e-5)
    found = outer.predict(IMAGES[:, None], verbose=0)[:, 0]
    np.testing.assert_allclose(found, answer, rtol=1e-4, atol=1e-5)


def test_weights_reach_a_network_through_a_wrapper(source):
    flat, _, answer, folder = source
    video = keras.Input((1, 32, 32, 3))
    outer = keras.Model(video, keras.layers.TimeDistributed(build(flat))(video))
    effnet_tf.load_weights(outer, folder / "a.keras")
    np.testing.assert_allclose(outer(IMAGES[:, None])[:, 0], answer, rtol=1e-4, atol=1e-5)


def test_each_form_takes_the_constants_of_the_other(source):
    flat, _, answer, folder = source
    for name in ("a.keras", "a.weights.h5"):
        other = build(not flat)
        report = effnet_tf.load_weights(other, folder / name)
        assert report.notes == ("(x - [127.5, 127.5, 127.5]) / [127.5, 127.5, 127.5]",)
        np.testing.assert_allclose(other(IMAGES), answer, rtol=1e-4, atol=1e-5)


def test_a_model_of_keras_that_was_loaded_gets_them_too(source):
    flat, _, answer, folder = source
    build(flat).save(folder / "b.keras")
    stock = keras.saving.load_model(folder / "b.keras")
    stock.predict(IMAGES, verbose=0)
    effnet_tf.load_weights(stock, folder / "a.keras")
    np.testing.assert_allclose(stock.predict(IMAGES, verbose=0), answer, rtol=1e-4, atol=1e-5)


def test_a_copy_of_the_blocks_has_them():
    model = build(False, "inception")
    copy = keras.models.clone_model(model)
    assert pixels.constants_of(copy) == INCEPTION
    other = keras.models.clone_model(build(False))
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other(IMAGES), model(IMAGES))


@pytest.mark.filterwarnings(
    "ignore:A total of 2 objects", "ignore:Skipping nested", "ignore:.*each of the . channels"
)
@pytest.mark.parametrize("channels", [1, 4])
def test_skipping_what_does_not_fit_leaves_a_model_that_runs(source, channels):
    flat, _, _, folder = source
    model = build(flat, input_shape=(32, 32, channels))
    images = np.zeros((1, 32, 32, channels), "float32")
    before = pixels.constants_of(model)
    model.predict(images, verbose=0)
    model.load_weights(folder / "a.weights.h5", skip_mismatch=True)
    assert pixels.constants_of(model) == before
    np.testing.assert_allclose(
        model.predict(images, verbose=0), model(images), rtol=1e-4, atol=1e-5
    )


class TestSetConstants:
    @pytest.mark.parametrize("flat", [False, True])
    def test_says_what_it_did(self, flat):
        model = build(flat)
        own = pixels.constants_of(model)
        np.testing.assert_allclose(own, (TINY.mean, TINY.std))
        assert pixels.set_constants(model, None) == pixels.set_constants(model, own) == ()
        assert "leaves" not in pixels.set_constants(model, ())[0]
        assert pixels.set_constants(model, (np.zeros(1), np.full(1, 255.0))) == (
            "(x - [0, 0, 0]) / [255, 255, 255]",
        )
        assert pixels.constants_of(model) == ([0.0] * 3, [255.0] * 3)

    @pytest.mark.parametrize("flat", [False, True])
    def test_without_the_layer_the_caller_is_told(self, flat):
        model = build(flat, preprocessing=False)
        assert pixels.constants_of(model) is None
        assert "leaves to its caller" in pixels.set_constants(model, INCEPTION)[0]

    def test_a_table_beside_the_images_keeps_its_own(self):
        table = keras.Input((3,))
        scale = keras.layers.Normalization()
        scale.adapt(np.float32([[1, 2, 3], [3, 4, 5]]))
        scaled = scale(table)
        net = build(True, include_top=False, pooling="avg")
        outputs = keras.layers.Concatenate()([net.output, scaled])
        model = keras.Model([net.input, table], outputs)
        pixels.set_constants(model, INCEPTION)
        assert pixels.constants_of(model) == INCEPTION
        np.testing.assert_allclose(scale.adapt_mean, [2, 3, 4])
        assert not [w for w in pixels.network_weights(model) if "normalization" in w.path[:13]]

    def test_another_scaling_behind_it_is_counted_in(self):
        """As in keras.applications with weights="imagenet"."""
        inputs = keras.Input((8, 8, 3))
        layer = keras.layers.Normalization()
        x = layer(keras.layers.Rescaling(1 / 255)(inputs))
        x = keras.layers.Rescaling(3.0, 0.5)(x)
        x = keras.layers.ZeroPadding2D(1)(x)
        model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="stem_conv")(x))
        pixels.set_constants(model, ([10, 20, 30], [4, 5, 6]))
        np.testing.assert_allclose(pixels.constants_of(model), ([10, 20, 30], [4, 5, 6]), rtol=1e-5)
        scaled = keras.Model(inputs, x)(IMAGES[:1, :8, :8])[:, 1:-1, 1:-1]
        expected = (IMAGES[:1, :8, :8] - [10, 20, 30]) / [4, 5, 6]
        np.testing.assert_allclose(scaled, expected, rtol=1e-3, atol=1e-3)


class TestKerasFiles:
    def found(self, tmp_path, model, name):
        path = tmp_path / name
        (model.save if name.endswith(".keras") else model.save_weights)(path)
        plain = build(False, include_top=False)
        effnet_tf.load_weights(plain, path, strict=False)
        return pixels.constants_of(plain)

    def joined(self, first):
        """A network beside a table of three columns; one of the two is made first."""
        keras.backend.clear_session()
        table = keras.Input((3,))
        scale = keras.layers.Normalization(name=first)
        scale.adapt(np.float32([[1, 2, 3], [3, 4, 5]]))
        net = build(True, "inception", include_top=False, pooling="avg")
        outputs = keras.layers.Concatenate()([net.output, scale(table)])
        return keras.Model([net.input, table], outputs)

    @pytest.mark.parametrize("name", ["a_normalization", "normalization_1", "zeros"])
    def test_a_table_is_not_taken_for_pixels(self, tmp_path, name):
        assert self.found(tmp_path, self.joined(name), "a.keras") == INCEPTION

    def test_weights_alone_do_not_say_which_of_two_it_is(self, tmp_path):
        own = pixels.constants_of(build(False))
        assert self.found(tmp_path, self.joined("normalization_1"), "a.weights.h5") == own

    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("name", ["a.keras", "a.weights.h5"])
    def test_a_layer_with_a_number_or_another_name(self, tmp_path, flat, name):
        model = build(flat, "inception", include_top=False)
        for layer in model.layers[:3]:
            layer.name = f"right_{layer.name}_7"
        assert self.found(tmp_path, model, name) == INCEPTION

    def test_what_the_user_does_before_is_the_users(self, tmp_path):
        inputs = keras.Input((32, 32, 3))
        scaled = keras.layers.Rescaling(255.0)(inputs)
        model = build(True, "inception", include_top=False, input_tensor=scaled)
        assert self.found(tmp_path, model, "a.keras") == INCEPTION

    @pytest.mark.parametrize(
        "node", [[[["b", 0, 0, {}]]], [{"args": [{"keras_history": ["b", 0, 0]}]}]]
    )
    def test_the_way_to_the_stem_in_either_layout(self, node):
        layers = [
            {"class_name": "Rescaling", "config": {"name": "a", "scale": 9.0, "offset": 0.0}},
            {"class_name": "Rescaling", "config": {"name": "b", "scale": 0.5, "offset": -1.0}},
            {"class_name": "Rescaling", "config": {"name": "c", "scale": 9.0, "offset": 0.0}},
            {"class_name": "Conv2D", "config": {"name": "stem_conv"}, "inbound_nodes": node},
        ]
        for layer in layers[:3]:
            layer["inbound_nodes"] = []
        found = keras_pixels.normalization({}, {"config": {"layers": layers}}, "stem_conv")
        np.testing.assert_allclose(np.ravel(found), [2.0, 2.0])
