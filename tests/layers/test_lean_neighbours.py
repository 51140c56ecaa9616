"""layers/lean_neighbours.py: next to a batch norm nothing is kept, and nothing else changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.layers import lean_norm, lean_passes
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_neighbours import activated, convolved, forget, lighten
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


class Stem:
    """Pixels are normalised and go through a convolution, a batch norm and an activation."""

    def __init__(self):
        self.norm, self.batch_norm = layers.Normalize([120.0] * 3, [60.0] * 3), layers.BatchNorm()
        self.theirs = keras.layers.Conv2D(4, 3, 2, "same", use_bias=False)
        self.ours = forget(keras.layers.Conv2D(4, 3, 2, "same", use_bias=False))
        self.activation = lighten(keras.layers.Activation("swish"), "swish")
        self.pixels = 60 * numbers(3, 9, 8, 3, dtype="float32") + 120
        for layer in (self.theirs, self.ours):
            layer.build((None, 9, 8, 3))
        self.ours.set_weights(self.theirs.get_weights())
        self.batch_norm.build((None, 5, 4, 4))

    def lean(self, pixels, kernel):
        self.ours.kernel.assign(kernel)
        return self.activation(self.batch_norm(self.ours(self.norm(pixels)), training=True))

    def plain(self, pixels, kernel):
        x = tf.nn.conv2d((pixels - 120) / 60, kernel, 2, "SAME")
        mean, variance = tf.nn.moments(x, (0, 1, 2))
        return tf.nn.silu(tf.nn.batch_normalization(x, mean, variance, 0.0, 1.0, 1e-3))


def test_a_stem_is_computed_again_from_its_pixels():
    stem, found = Stem(), []
    for form, kernel in ((stem.lean, stem.ours.kernel.value), (stem.plain, stem.ours.kernel.value)):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(stem.pixels)
            with tf.GradientTape() as tape:
                tape.watch(stem.pixels)
                outputs = form(stem.pixels, stem.ours.kernel)
                goal = tf.reduce_sum(tf.sin(outputs))
            gradients = tape.gradient(goal, [stem.pixels, kernel])
            penalty = tf.reduce_sum(gradients[0] ** 2)
        found.append([outputs, *gradients, outer.gradient(penalty, stem.pixels)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_stem_keeps_nothing_but_pixels():
    stem, found = Stem(), []

    @tf.function
    def step(pixels, weight):
        with tf.GradientTape() as tape:
            tape.watch(weight)
            x = stem.ours(stem.norm(pixels))
            h = stem.activation(stem.batch_norm(x, training=True))
            goal = tf.reduce_sum(convolved(DEPTHWISE, h, weight) * weight[0, 0, 0])
        found[:] = tape.gradient(goal, [weight, stem.ours.kernel.value])
        return found

    graph = step.get_concrete_function(stem.pixels, numbers(5, 5, 4, 1, dtype="float32")).graph
    # One is shared by the gradients of activation and batch norm.
    forward, *later = (each for each in graph.get_operations() if each.type == "Conv2D")
    assert len(later) == 2
    for of in found:
        backward = [each for each in ancestors(of) if each.type.endswith(("Filter", "GradV3"))]
        assert backward
        for each in backward:
            assert not {forward, forward.inputs[0].op} & {of.op for of in each.inputs}
    for again in later:
        pixels = again.inputs[0].op
        assert any(each.control_inputs for each in (pixels, *(of.op for of in pixels.inputs)))


def test_pixels_are_the_same_numbers_beside_a_tape():
    norm, pixels = layers.Normalize([123.675] * 3, [58.395] * 3), Stem().pixels
    plain = norm(pixels)
    compiled = tf.function(norm)
    assert source_of(plain) is None
    with tf.GradientTape():
        np.testing.assert_array_equal(norm(pixels), plain)
        np.testing.assert_array_equal(compiled(pixels), plain)
        whole = tf.cast(pixels, "uint8")
        assert source_of(norm(whole)).x.dtype == tf.uint8
        np.testing.assert_array_equal(norm(whole), norm(tf.cast(whole, "float32")))
