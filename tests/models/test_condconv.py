"""CondConv in both forms: built, counted, saved, frozen, trained."""

import dataclasses
import inspect

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf.layers import Routing, step_form
from effnet_tf.layers.cond_conv import MixedConvolution
from effnet_tf.optim import decayed
from effnet_tf.variants import CONDCONVS
from tests.helpers import tiny_condconv
from tests.helpers.tiny_condconv import IMAGES


@pytest.fixture(scope="module")
def blocks():
    return tiny_condconv.build()


@pytest.fixture(scope="module")
def flat(blocks, tmp_path_factory):
    path = tmp_path_factory.mktemp("a") / "a.weights.h5"
    blocks.save_weights(path)
    model = tiny_condconv.build(flat=True)
    assert effnet_tf.load_weights(model, path).exact
    return model


def test_both_forms_compute_the_same(blocks, flat):
    expected = np.asarray(blocks(IMAGES))
    assert expected.std() > 0.01
    np.testing.assert_allclose(flat(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_images_do_not_see_each_other(blocks):
    together = np.asarray(blocks(IMAGES))
    alone = np.concatenate([blocks(image[np.newaxis]) for image in IMAGES])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_routing_matters(blocks):
    """In each of the blocks."""
    routings = [layer for layer in blocks._flatten_layers() if isinstance(layer, Routing)]
    assert len(routings) == 3
    before = np.asarray(blocks(IMAGES))
    for layer in routings:
        old = layer.get_weights()
        layer.set_weights([0 * each for each in old])
        assert np.abs(blocks(IMAGES) - before).max() > 1e-3
        layer.set_weights(old)


def test_a_built_one_costs_what_its_row_does(blocks, flat):
    side = 48
    expected = effnet_tf.cost(tiny_condconv.row(), resolution=side, num_classes=3)
    assert expected.mixing_multiply_adds > 0
    for form in (False, True):
        model = tiny_condconv.build(input_shape=(side, side, 3), flat=form)
        assert effnet_tf.cost(model) == expected


@pytest.mark.parametrize("form", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_saved_and_loaded(form, blocks, flat, tmp_path):
    model = flat if form else blocks
    model.save(tmp_path / "a.keras")
    again = effnet_tf.load_model(tmp_path / "a.keras")
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))
    assert sum(isinstance(each, MixedConvolution) for each in again._flatten_layers()) == 3 * 3 - 1


def test_of_images_of_any_size_and_number():
    model = effnet_tf.feature_extractor(
        tiny_condconv.row(), ["reduction_2", "logits"], input_shape=(None, None, 3), num_classes=3
    )
    traced = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for count, side in ((1, 32), (3, 45)):
        images = np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype("float32")
        found = traced(images)
        assert found["logits"].shape == (count, 3)
        expected = model(images)["logits"]
        np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


def test_an_output_stride_dilates_the_mixed_kernels():
    """A stage of stride 2 more, for a network of 16 in all, of which 8 shall be left."""
    row = tiny_condconv.row()
    first = dataclasses.replace(row.stages[0], strides=2)
    row = dataclasses.replace(row, stages=(first, *row.stages[1:], row.stages[1]))
    shape = dict(input_shape=(64, 64, 3), num_classes=3)
    plain, dilated = (
        effnet_tf.feature_extractor(row, "head", output_stride=stride, **shape)
        for stride in (16, 8)
    )
    assert plain(np.zeros((2, 64, 64, 3)))["head"].shape == (2, 4, 4, 16)
    assert dilated(np.zeros((2, 64, 64, 3)))["head"].shape == (2, 8, 8, 16)


@pytest.mark.parametrize("name", CONDCONVS)
def test_constructors_say_what_they_need(name):
    constructor = getattr(effnet_tf, name)
    assert "needs this package to load" in " ".join(constructor.__doc__.split())
    ours = inspect.signature(effnet_tf.EfficientNetB0).parameters
    assert list(inspect.signature(constructor).parameters) == list(ours)


def test_a_step_says_that_it_is_plain():
    assert "kernels are mixed of experts" in step_form.described(tiny_condconv.build())


@pytest.mark.parametrize("form", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_freezing(form):
    model = tiny_condconv.build(flat=form)
    effnet_tf.set_trainable(model, "stage_3")
    names = {weight.path for weight in model.trainable_weights}
    assert any("routing/kernel" in name for name in names)
    assert not any("block2" in name for name in names)
    assert any("block3a" in name for name in names)


def test_every_kernel_routing_and_expert_trains_and_decays():
    model = tiny_condconv.build()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(IMAGES, training=True) ** 2)
    gradients = tape.gradient(loss, [each.value for each in model.trainable_weights])
    for weight, gradient in zip(model.trainable_weights, gradients):
        assert gradient is not None, weight.path
        if weight.name == "kernel":
            assert float(tf.reduce_max(tf.abs(gradient))) > 0, weight.path
    names = {each.path.split("/", 1)[-1] for each in decayed(model.trainable_weights)}
    assert {"routing/kernel", "routing/bias", "dwconv/kernel"} <= names
