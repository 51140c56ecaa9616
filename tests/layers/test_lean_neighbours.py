"""layers/lean_neighbours.py: next to a batch norm nothing is kept, and nothing else changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.layers import lean_norm, lean_passes
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_neighbours import activated, convolved, lighten
from effnet_tf.layers.lean_sources import Source, note, source_of

pytestmark = pytest.mark.processor

DEPTHWISE = LeanConvolution(True, 5, 2)
CONVOLUTIONS = [DEPTHWISE, LeanConvolution(False, 1), LeanConvolution(False, 3)]


def numbers(*shape, seed=0, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).normal(0.3, 1, shape), dtype)


def given(convolution, dtype="float64"):
    """A map, factor and shift of its batch norm, and a kernel."""
    kernel = (convolution.size, convolution.size, 4, 1 if convolution.depthwise else 2)
    shapes = [(2, 5, 4, 4), (4,), (4,), kernel]
    return [numbers(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes)]


def sourced(convolution, x, factor, shift, kernel):
    y = x * factor + shift
    h = activated(y, Source(x, factor, shift, "swish"))
    return convolved(convolution, h, kernel)


def plain(convolution, x, factor, shift, kernel):
    return convolution.forward(tf.nn.silu(x * factor + shift), kernel)


def differentiated(form, convolution, inputs):
    with tf.GradientTape() as outer:
        outer.watch(inputs)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            goal = tf.reduce_sum(tf.sin(form(convolution, *inputs)))
        gradients = tape.gradient(goal, inputs)
        penalty = tf.add_n([tf.reduce_sum(each**2) for each in gradients])
    return *gradients, *outer.gradient(penalty, inputs)


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_first_and_second_derivatives_equal_autodiff(convolution):
    inputs = given(convolution)
    found, expected = (differentiated(form, convolution, inputs) for form in (sourced, plain))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


def ancestors(tensor):
    """The operations that a tensor is computed from."""
    found, left = set(), [tensor.op]
    while left:
        operation = left.pop()
        if operation not in found:
            found.add(operation)
            left += [each.op for each in operation.inputs]
    return found


def test_the_gradient_needs_neither_map(monkeypatch):
    monkeypatch.setattr(lean_passes, "activated", _silu)
    maps = []

    @tf.function
    def step(x, factor, shift, kernel, d):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = x * factor + shift
            h = activated(y, Source(x, factor, shift, "swish"))
            z = convolved(DEPTHWISE, h, kernel)
        gradients = tape.gradient(z, [x, kernel], d)
        maps.extend([y, h, *gradients])
        return gradients

    inputs = given(DEPTHWISE, "float32")
    step.get_concrete_function(*inputs, DEPTHWISE.forward(inputs[0], inputs[3]))
    y, h, *gradients = maps
    for each in gradients:
        assert not ancestors(each) & {y.op, h.op}


def _silu(activation, x, factor, shift):
    return tf.nn.silu(x * factor + shift)


@pytest.mark.parametrize("activation", ["swish", "relu6", "softmax"])
def test_a_layer_follows_a_batch_norm(activation):
    inputs, norm = numbers(2, 5, 4, 3, dtype="float32"), layers.BatchNorm()
    layer = lighten(keras.layers.Activation(activation), activation)
    theirs = keras.layers.Activation(activation)
    y = norm(inputs, training=True)
    assert (source_of(layer(y)) is not None) == lean_passes.knows(activation)
    np.testing.assert_allclose(layer(y), theirs(y), rtol=1e-5, atol=1e-5)
    y = norm(inputs, training=False)
    assert source_of(layer(y)) is None
    np.testing.assert_array_equal(layer(y), theirs(y))


def test_an_activation_that_was_exchanged_is_called():
    layer = lighten(keras.layers.Activation("swish"), "swish")
    layer.activation = keras.activations.get("relu")
    y = layers.BatchNorm()(numbers(2, 5, 4, 3, dtype="float32"), training=True)
    np.testing.assert_array_equal(layer(y), tf.nn.relu(y))


def test_a_convolution_without_gradients_keeps_its_input():
    dilated, x = LeanConvolution(False, 3, dilation=2), numbers(2, 5, 4, 4)
    note(x, Source(x, tf.ones(4, x.dtype), tf.zeros(4, x.dtype)))
    kernel = numbers(3, 3, 4, 2)
    np.testing.assert_array_equal(convolved(dilated, x, kernel), dilated.forward(x, kernel))


def test_statistics_of_a_batch_are_in_the_source():
    x, norm = numbers(2, 5, 4, 3, dtype="float32"), keras.layers.BatchNormalization()
    lean_norm.fuse(norm)
    y = norm(x, training=True)
    source = source_of(y)
    np.testing.assert_allclose(source.x * source.factor + source.shift, y, rtol=1e-4, atol=1e-5)
