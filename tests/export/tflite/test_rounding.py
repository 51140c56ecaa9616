"""rounding.py, seen.py, sweeping.py, leaves.py: 8-bit weights whose errors cancel."""

import functools
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import effnet_tf
from effnet_tf.errors import InputError
from effnet_tf.export import folding
from effnet_tf.export.tflite import (
    equalization,
    flatbuffer,
    leaves,
    linking,
    measuring,
    preparing,
    rounding,
    seen,
    sweeping,
)
from effnet_tf.export.tflite.options import Options
from tests.helpers.tiny_net import randomise_batch_norm

RANDOM = np.random.default_rng(0)
IMAGES = leaves.images(8, (32, 32, 3), seed=3)


def weights(*shape):
    return RANDOM.normal(size=shape)


def covariance(groups, taps, rank=None):
    """Random covariances of taps that mostly see the same, as neighbouring pixels do."""
    common = RANDOM.normal(size=(groups, 1, rank or 3 * taps))
    values = common + 0.2 * RANDOM.normal(size=(groups, taps, rank or 3 * taps))
    return values @ values.transpose(0, 2, 1) / values.shape[-1]


def lost(exact, rounded, moments):
    errors = exact - rounded
    return np.einsum("gft,gtu,gfu->gf", errors, moments, errors)


class TestCompensated:
    @pytest.mark.parametrize("groups, rows, taps", [(1, 5, 150), (6, 1, 9), (4, 2, 25)])
    def test_loses_much_less_than_nearest(self, groups, rows, taps):
        exact, moments = weights(groups, rows, taps), covariance(groups, taps)
        near = lost(exact, rounding.nearest(exact), moments)
        found = lost(exact, rounding.compensated(exact, moments), moments)
        assert found.sum() < 0.3 * near.sum()

    @pytest.mark.parametrize("groups, rows, taps", [(1, 5, 150), (6, 1, 9)])
    def test_rounding_again_changes_nothing(self, groups, rows, taps):
        exact = weights(groups, rows, taps)
        found = rounding.compensated(exact, covariance(groups, taps))
        np.testing.assert_allclose(rounding.nearest(found), found, rtol=1e-6)
        scale = np.abs(exact).max(-1, keepdims=True) / 127
        np.testing.assert_allclose(found / scale, np.rint(found / scale), atol=1e-3)

    def test_is_the_walk_from_tap_to_tap(self):
        """By the definition, without blocks: T is more than two of them."""
        exact, (moments,) = weights(1, 3, 150), covariance(1, 150)
        scale = np.abs(exact).max(-1, keepdims=True) / 127
        order = np.argsort(np.diag(moments), kind="stable")
        damped = moments + rounding.DAMPING * np.diag(moments).mean() * np.eye(150)
        factor = np.linalg.cholesky(damped[order][:, order])
        wanted, steps = np.zeros((3, 150)), (exact / scale)[0][:, order]
        for row in range(3):
            errors = np.zeros(150)
            for tap in reversed(range(150)):
                target = steps[row, tap] + errors @ factor[:, tap] / factor[tap, tap]
                value = np.clip(np.rint(target), -127, 127)
                if abs(steps[row, tap]) > 126.999:
                    value = np.rint(steps[row, tap])
                wanted[row, order[tap]], errors[tap] = value, steps[row, tap] - value
        found = rounding.compensated(exact, moments[np.newaxis]) / scale
        np.testing.assert_array_equal(np.rint(found[0]), wanted)

    @pytest.mark.parametrize("rank", [0, 1, 3])
    def test_singular_covariances(self, rank):
        exact = weights(2, 3, 9)
        moments = np.zeros((2, 9, 9))
        if rank:
            moments = covariance(2, 9, rank)
        found = rounding.compensated(exact, moments)
        assert np.isfinite(found).all()
        if not rank:
            np.testing.assert_array_equal(found, rounding.nearest(exact))

    def test_zeros_stay_zeros(self):
        exact, moments = weights(1, 3, 20), covariance(1, 20)
        exact[0, 1] = 0  # a dead output channel
        moments[0, 4], moments[0, :, 4] = 0, 0  # a tap that sees nothing
        found = rounding.compensated(exact, moments)
        assert not found[0, 1].any()
        np.testing.assert_array_equal(found[0, :, 4], rounding.nearest(exact)[0, :, 4])

    def test_nearest_is_what_the_converter_does(self):
        kernel = weights(3, 3, 4, 2).astype("float32")
        layer = layers.DepthwiseConv2D(3, depth_multiplier=2)
        layer.build((None, 8, 8, 4))
        found = seen.kernel_of(layer, rounding.nearest(seen.rows_of(layer, kernel)))
        np.testing.assert_array_equal(found, equalization.rounded(kernel, depthwise=True))


LAYERS = [
    layers.Conv2D(5, 1),
    layers.Conv2D(5, 3, padding="same", strides=2),
    layers.Conv2D(5, (3, 1), dilation_rate=2),
    layers.Conv2D(5, 3, padding="same", dilation_rate=2),
    layers.DepthwiseConv2D(3, padding="same"),
    layers.DepthwiseConv2D(5, depth_multiplier=2, strides=2),
    layers.Dense(5),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__class__.__name__)
def test_taps_see_what_the_layer_computes_with(layer):
    batches = [RANDOM.normal(1, 1, (2, 10, 7, 3)).astype("float32") for _ in range(2)]
    outputs = np.concatenate([layer(batch) for batch in batches])
    outputs = outputs.reshape(-1, outputs.shape[-1])
    rows = seen.rows_of(layer, np.asarray(layer.kernel))
    np.testing.assert_array_equal(seen.kernel_of(layer, rows), layer.kernel)
    mean = seen.mean(layer, [tf.constant(batch) for batch in batches])
    moments = seen.covariance(layer, [tf.constant(batch) for batch in batches], mean)
    found = (rows @ mean[:, :, np.newaxis]).reshape(-1)
    np.testing.assert_allclose(found, outputs.mean(0), atol=1e-5)
    found = np.einsum("gft,gtu,gfu->gf", rows, moments, rows).reshape(-1)
    np.testing.assert_allclose(found, outputs.var(0), rtol=1e-4)


def test_large_maps_are_seen_at_some_places():
    batch = tf.constant(RANDOM.normal(5, 1, (2, 90, 90, 2)), tf.float32)
    layer = layers.Conv2D(3, 3, padding="same")
    layer(batch)
    assert seen._patches(layer, batch).shape[1] <= 2 * seen.MOST_PLACES
    wanted = np.asarray(batch).mean((0, 1, 2))
    np.testing.assert_allclose(seen.mean(layer, [batch]).reshape(9, 2)[4], wanted, atol=0.1)


# --- networks ------------------------------------------------------------------------------


@functools.cache
def folded():
    """A small network with swish and its weights, which `network` puts back."""
    keras.utils.set_random_seed(0)
    variant = effnet_tf.CompoundScaling().variant(-8)
    model = effnet_tf.model_fn(variant, 4, input_shape=(32, 32, 3), classifier_activation=None)
    model = folding.fold(randomise_batch_norm(model))
    return model, model.get_weights()


def network():
    model, before = folded()
    model.set_weights(before)
    return model


def three_layers(filters=4):
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(filters, 3, activation="relu", name="first")(inputs)
    x = layers.DepthwiseConv2D(3, name="second")(x)
    return keras.Model(inputs, layers.Dense(2, name="third")(x))


def kernels(model):
    return [layer for layer in model.layers if linking.is_kernel(layer)]


def run(model, images=IMAGES):
    return np.asarray(model(images, training=False))


def round_to_nearest(model):
    for layer in kernels(model):
        kernel, *bias = layer.get_weights()
        rows = rounding.nearest(seen.rows_of(layer, kernel))
        layer.set_weights([seen.kernel_of(layer, rows), *bias])


def test_a_rounded_network_says_what_it_said():
    model, others = network(), leaves.images(8, (32, 32, 3), seed=4)
    exact, before = run(model, others), model.get_weights()
    round_to_nearest(model)
    nearest = measuring.sqnr(exact, run(model, others))
    model.set_weights(before)
    assert sweeping.round_weights(model, IMAGES) == len(kernels(model))
    found = run(model, others)
    assert measuring.sqnr(exact, found) > nearest + 3
    round_to_nearest(model)  # as whoever writes the file will
    np.testing.assert_allclose(run(model, others), found, atol=1e-4 * exact.std())


def test_biases_take_up_the_mean_of_all_that_is_lost():
    model = network()
    watched = keras.Model(model.input, [layer.output for layer in kernels(model)])
    exact = [np.mean(values, (0, 1, 2)[: values.ndim - 1]) for values in watched(IMAGES)]
    sweeping.round_weights(model, IMAGES)
    for before, values in zip(exact, watched(IMAGES)):
        after = np.mean(values, (0, 1, 2)[: values.ndim - 1])
        np.testing.assert_allclose(after, before, atol=1e-3 * np.std(values))


def test_small_kernels_stay():
    model = three_layers(10)
    before = {layer.name: layer.get_weights()[0] for layer in kernels(model)}
    assert sweeping.round_weights(model, IMAGES, smallest=flatbuffer.SMALL) == 1
    for name, kernel in before.items():
        stayed = np.array_equal(model.get_layer(name).get_weights()[0], kernel)
        assert stayed == (kernel.size < flatbuffer.SMALL)


@pytest.mark.parametrize("images", [np.full((2, 32, 32, 3), 7.0), IMAGES[:1]])
def test_images_that_tell_little(images):
    model = three_layers()
    kernel, bias = model.get_layer("first").get_weights()
    kernel[..., 0], bias[0] = 0, 0  # pruned
    model.get_layer("first").set_weights([kernel, bias])
    sweeping.round_weights(model, images)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert not model.get_layer("first").get_weights()[0][..., 0].any()


def test_layers_without_a_bias_and_layers_called_twice():
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name="plain")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="classes")(shared(shared(x))))
    exact = run(model)
    before, bias = model.get_layer("shared").get_weights()
    assert sweeping.round_weights(model, IMAGES) == 3
    after, same = model.get_layer("shared").get_weights()
    np.testing.assert_array_equal(after, equalization.rounded(before))
    np.testing.assert_array_equal(same, bias)
    assert measuring.sqnr(exact, run(model)) > 30


def test_numbers_that_are_not_finite():
    model = three_layers()
    model.get_layer("first").set_weights([np.full((3, 3, 3, 4), 1e38), np.zeros(4)])
    with pytest.raises(InputError, match="'second' takes numbers that are not finite"):
        sweeping.round_weights(model, IMAGES)


def test_as_many_images_as_memory_allows(monkeypatch):
    model = three_layers()
    assert sweeping.count(model) == sweeping.MOST_IMAGES
    assert len(sweeping.chosen(model, IMAGES)) == len(IMAGES)
    largest = max(np.prod(layer.output.shape[1:]) for layer in model.layers[1:])
    monkeypatch.setattr(sweeping, "MEMORY", 5 * 16 * largest)
    assert sweeping.count(model) == 5
    chosen = sweeping.chosen(model, IMAGES)
    np.testing.assert_array_equal(chosen, IMAGES[[0, 1, 3, 5, 7]])


# --- how it is asked for -------------------------------------------------------------------


class TestPreparing:
    def said(self, caplog, options, images, takes_pixels=True):
        model = three_layers()
        with caplog.at_level(logging.INFO, "effnet_tf"):
            done = preparing.round_weights(model, options, images, takes_pixels=takes_pixels)
        return done, caplog.text

    def test_on_calibration_images(self, caplog):
        done, text = self.said(caplog, Options("weights8"), IMAGES)
        assert done and "effort normal, the default: the errors" in text
        assert "on 8 calibration images" in text

    def test_on_drawn_ones(self, caplog, monkeypatch):
        monkeypatch.setattr(sweeping, "MOST_IMAGES", 5)
        done, text = self.said(caplog, Options("weights8", effort="normal"), None)
        assert done and "on 5 drawn images" in text and "default" not in text

    def test_not_where_nobody_wants_or_can(self, caplog):
        done, text = self.said(caplog, Options("weights8", effort="quick"), IMAGES)
        assert not done and "effort quick: each weight" in text
        done, text = self.said(caplog, Options("weights8"), None, takes_pixels=False)
        assert not done and "give calibration images" in text

    def test_for_kinds_with_8_bit_weights_only(self):
        with pytest.raises(InputError, match="effort is 'best'; it must be one of quick"):
            Options("weights8", effort="best")
        with pytest.raises(InputError, match="effort is for quantize weights8, int8, int16x8"):
            Options("float16", effort="quick")
        with pytest.raises(InputError, match="'thorough' searches for ranges of quantize 'int8'"):
            Options("weights8", effort="thorough")


def test_drawn_images_are_a_function_of_the_seed():
    found = leaves.images(3, (20, 30, 1), seed=5)
    assert found.shape == (3, 20, 30, 1) and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 255
    np.testing.assert_array_equal(found[:2], leaves.images(2, (20, 30, 1), seed=5))
    assert (found[0] != found[1]).any() and (found != leaves.images(3, (20, 30, 1))).any()


def test_drawn_images_look_alike_at_neighbouring_pixels():
    image = leaves.images(8, (64, 64, 3))
    near = np.corrcoef(image[:, 1:].ravel(), image[:, :-1].ravel())[0, 1]
    assert near > 0.8
