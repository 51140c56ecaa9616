"""layers/cond_conv.py: kernels that are mixed for each image."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import InputError
from effnet_tf.layers import CondConv, DepthwiseCondConv, Routing

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(3, 9, 8, 4)).astype("float32")
WEIGHTS = RANDOM.uniform(size=(3, 5)).astype("float32")
KINDS = [
    pytest.param(CondConv, dict(filters=6, kernel_size=1), id="1x1"),
    pytest.param(CondConv, dict(filters=6, kernel_size=3, strides=2), id="3x3"),
    pytest.param(CondConv, dict(filters=6, kernel_size=3, padding="valid"), id="valid"),
    pytest.param(CondConv, dict(filters=6, kernel_size=3, dilation_rate=2), id="dilated"),
    pytest.param(DepthwiseCondConv, dict(kernel_size=5, strides=2), id="depthwise"),
    pytest.param(DepthwiseCondConv, dict(kernel_size=3, dilation_rate=2), id="depthwise dilated"),
]


def build(kind, settings, **options):
    keras.utils.set_random_seed(1)
    layer = kind(experts=5, **{"own_routing": False, "activation": "swish", **settings, **options})
    layer.build(INPUTS.shape)
    if layer.use_bias:
        layer.bias.assign(RANDOM.normal(size=layer.bias.shape))
    return layer


def one_by_one(layer, inputs, weights):
    """Convolves each image by Keras' own layer, whose kernel is mixed here."""
    found = []
    config = layer.get_config()
    for name in ("experts", "own_routing", "name"):
        del config[name]
    kind = keras.layers.Conv2D if type(layer) is CondConv else keras.layers.DepthwiseConv2D
    for image, row in zip(inputs, weights):
        stock = kind(**config)
        stock.build((None, *image.shape))
        kernel = np.tensordot(row, np.asarray(layer.kernel), 1).reshape(stock.kernel.shape)
        stock.set_weights([kernel, *([np.asarray(layer.bias)] if layer.use_bias else [])])
        found.append(stock(image[np.newaxis])[0])
    return np.stack(found)


@pytest.mark.parametrize("kind, settings", KINDS)
class TestEachImageHasItsKernel:
    def test_equals_a_convolution_per_image(self, kind, settings):
        layer = build(kind, settings)
        made = layer(INPUTS, WEIGHTS)
        np.testing.assert_allclose(made, one_by_one(layer, INPUTS, WEIGHTS), rtol=1e-4, atol=1e-5)
        assert made.shape == layer.compute_output_shape(INPUTS.shape)

    @pytest.mark.parametrize("shape", [(None, 9, 8, 4), (None, None, None, 4)])
    def test_of_a_batch_that_nobody_knows(self, kind, settings, shape):
        layer = build(kind, settings)
        specs = [tf.TensorSpec(shape), tf.TensorSpec((None, 5))]
        traced = tf.function(layer, input_signature=specs)
        for count in (3, 1):
            expected = layer(INPUTS[:count], WEIGHTS[:count])
            made = traced(INPUTS[:count], WEIGHTS[:count])
            np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)

    def test_gradients_are_those_of_the_convolutions(self, kind, settings):
        layer = build(kind, settings)
        inputs, weights = tf.constant(INPUTS), tf.constant(WEIGHTS)
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            loss = tf.reduce_sum(tf.sin(layer(inputs, weights)))
        found = tape.gradient(loss, [inputs, weights, layer.kernel.value])
        assert all(float(tf.reduce_max(tf.abs(each))) > 0 for each in found)
        step = np.zeros_like(WEIGHTS)
        step[1, 2] = 1e-2
        more, less = (
            tf.reduce_sum(tf.sin(layer(inputs, WEIGHTS + sign * step))) for sign in (1, -1)
        )
        assert float(more - less) / 2e-2 == pytest.approx(float(found[1][1, 2]), rel=0.02, abs=1e-3)


class TestMixingOutputs:
    """The form for files whose kernels must be constants."""

    @pytest.mark.parametrize("settings", [dict(kernel_size=5, strides=2), dict(kernel_size=3)])
    def test_computes_the_same(self, settings):
        layer = build(DepthwiseCondConv, settings)
        expected = layer(INPUTS, WEIGHTS)
        layer.mixes_outputs = True
        np.testing.assert_allclose(layer(INPUTS, WEIGHTS), expected, rtol=1e-4, atol=1e-5)


class TestRouting:
    def test_is_the_sigmoid_of_a_dense_layer_on_the_means(self):
        layer = Routing(5)
        layer.build(INPUTS.shape)
        layer.bias.assign(RANDOM.normal(size=5))
        scores = INPUTS.mean((1, 2)) @ np.asarray(layer.kernel) + np.asarray(layer.bias)
        np.testing.assert_allclose(layer(INPUTS), 1 / (1 + np.exp(-scores)), rtol=1e-5)

    def test_rounding_has_no_direction(self):
        """What each block has too little of every expert adds up."""
        layer = Routing(8)
        layer.build((None, 1, 1, 8))
        layer.kernel.assign(np.eye(8))
        scores = np.random.default_rng(0).normal(0, 0.3, (500, 8)).astype("float32")
        found = np.asarray(layer(scores[:, np.newaxis, np.newaxis]), "float64")
        errors = found - 1 / (1 + np.exp(-scores.astype("float64")))
        assert np.abs(errors).max() < 2e-7 and abs(errors.mean()) < 5e-9

    def test_saturates_and_has_a_gradient_everywhere(self):
        layer = Routing(2)
        layer.build((None, 1, 1, 2))
        layer.kernel.assign(np.eye(2))
        inputs = tf.constant([[[[-1e4, 1e4]]], [[[0.0, 1.0]]]])
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            made = layer(inputs)
        np.testing.assert_allclose(made, [[0, 1], [0.5, 0.731059]], atol=1e-6)
        expected = [[0, 0], [0.25, 0.196612]]
        np.testing.assert_allclose(tape.gradient(made, inputs)[:, 0, 0], expected, atol=1e-6)

    def test_a_layer_may_have_its_own(self):
        layer = CondConv(6, 3, experts=5)
        made = layer(INPUTS)
        expected = one_by_one(layer, INPUTS, np.asarray(layer.routing(INPUTS)))
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)
        assert len(layer.trainable_weights) == 4

    def test_without_one_the_weights_must_be_given(self):
        with pytest.raises(InputError, match="has no routing of its own"):
            build(CondConv, dict(filters=6, kernel_size=1))(INPUTS)

    def test_there_must_be_an_expert(self):
        with pytest.raises(InputError, match="experts is 0; there must be at least 1"):
            Routing(0)


def test_each_expert_starts_as_an_ordinary_kernel():
    layer = CondConv(32, 3, experts=4)
    layer.build((None, 8, 8, 64))
    assert layer.kernel.shape == (4, 3 * 3 * 64 * 32)
    np.testing.assert_allclose(
        np.asarray(layer.kernel).std(1), np.full(4, np.sqrt(2 / (9 * 32))), rtol=0.03
    )


def test_half_precision_keeps_its_type():
    layer = DepthwiseCondConv(3, experts=5, dtype="mixed_bfloat16")
    assert layer(INPUTS).dtype == tf.bfloat16
