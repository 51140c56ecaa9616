"""layers/lean_units.py and what they are made of, against autodiff in float64."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.layers import lean_passes, lean_statistics
from effnet_tf.layers.lean_convolutions import LeanConvolution, convolution
from effnet_tf.layers.lean_units import Unit

pytestmark = pytest.mark.processor  # and so are the kernels that TensorFlow takes

EPSILON, CHANNELS = 1e-3, 4
CONVOLUTIONS = {
    "product": LeanConvolution(False, 1),
    "depthwise": LeanConvolution(True, 3),
    "large, strided": LeanConvolution(True, 5, 2),
    "full": LeanConvolution(False, 3, 2, "VALID"),
}
SHAPES = [(2, 5, 4, CHANNELS), pytest.param((1, 7, 6, CHANNELS), marks=pytest.mark.slow)]


def numbers(*shape, seed=0, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).normal(0.3, 1, shape), dtype)


def excite(mean, first, second):
    return tf.sigmoid(tf.matmul(tf.nn.silu(tf.matmul(mean, first)), second))


def weights_of(kind, gates=False, first=False):
    found = {"gamma": numbers(CHANNELS, seed=1), "beta": numbers(CHANNELS, seed=2)}
    filters = 1 if kind.depthwise else 3
    found["kernel"] = numbers(kind.size, kind.size, CHANNELS, filters, seed=3)
    if gates:
        found |= {"reduce": numbers(CHANNELS, 2, seed=4), "expand": numbers(2, CHANNELS, seed=5)}
    if first:
        found["first"] = numbers(1, 1, CHANNELS, CHANNELS, seed=6)
    return found


def plainly(unit, x, weights):
    """What a unit computes, by TensorFlow's own operations."""
    if unit.first is not None:
        x = tf.nn.conv2d(x, weights["first"], 1, "SAME")
    mean, variance = unit.given or tf.nn.moments(x, (0, 1, 2))
    y = (x - mean) * tf.math.rsqrt(variance + EPSILON) * weights["gamma"] + weights["beta"]
    h = keras.activations.get(unit.activation)(y)
    if unit.excite is not None:
        gate = excite(tf.reduce_mean(h, (1, 2)), weights["reduce"], weights["expand"])
        h *= gate[:, None, None]
    kind = unit.convolution
    if kind.depthwise:
        strides = (1, kind.strides, kind.strides, 1)
        return tf.nn.depthwise_conv2d(h, weights["kernel"], strides, kind.padding), mean, variance
    return tf.nn.conv2d(h, weights["kernel"], kind.strides, kind.padding), mean, variance


def differentiated(function, x, weights):
    """Outputs of a function, and the gradients of all that it takes."""
    with tf.GradientTape() as tape:
        tape.watch([x, weights])
        outputs = function(x, weights)
        goal = tf.reduce_sum(tf.sin(outputs[0]))
    return [*outputs, *tf.nest.flatten(tape.gradient(goal, [x, weights]))]


def check(unit, x, weights, compiled=False, **how):
    ours = functools.partial(differentiated, unit)
    if compiled:
        ours = tf.function(ours, **how)
    theirs = differentiated(functools.partial(plainly, unit), x, weights)
    for found, expected in zip(ours(x, weights), theirs, strict=True):
        assert found.dtype == tf.float64
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_equals_autodiff(kind, shape):
    kind, x = CONVOLUTIONS[kind], numbers(*shape)
    given = numbers(CHANNELS, seed=7), tf.abs(numbers(CHANNELS, seed=8))
    for gates, first, statistics in itertools.product((False, True), (False, True), (None, given)):
        if gates and not kind.is_product:
            continue
        unit = Unit(EPSILON, "swish", kind, gates and excite or None, given=statistics)
        if first:
            unit = Unit(EPSILON, "swish", kind, unit.excite, LeanConvolution(False, 1), statistics)
        check(unit, x, weights_of(kind, gates, first))


@pytest.mark.parametrize("activation", lean_passes.ACTIVATIONS)
def test_every_activation(activation):
    kind = CONVOLUTIONS["depthwise"]
    check(Unit(EPSILON, activation, kind), numbers(2, 3, 3, CHANNELS), weights_of(kind))


@pytest.mark.parametrize(
    "gates, first", [(True, True), pytest.param(False, False, marks=pytest.mark.slow)]
)
def test_compiled_passes_are_the_same(gates, first):
    kind = CONVOLUTIONS["product"]
    unit = Unit(EPSILON, "hard_swish", kind, gates and excite or None, first and kind or None)
    check(unit, numbers(2, 5, 4, CHANNELS), weights_of(kind, gates, first), compiled=True)


def test_under_xla_gates_equal_autodiff():
    unit = Unit(EPSILON, "swish", CONVOLUTIONS["product"], excite)
    weights = weights_of(unit.convolution, gates=True)
    check(unit, numbers(2, 5, 4, CHANNELS), weights, compiled=True, jit_compile=True)


@pytest.mark.parametrize("dtype, times", [("float32", 2), ("bfloat16", 1)])
def test_xla_makes_the_gradient_of_a_gated_map_twice_in_float32(dtype, times):
    unit = Unit(EPSILON, "swish", CONVOLUTIONS["product"], excite)
    x = numbers(2, 5, 4, CHANNELS, dtype=dtype)
    weights = {
        name: tf.cast(value, dtype if name == "kernel" else "float32")
        for name, value in weights_of(unit.convolution, gates=True).items()
    }
    ours = tf.function(functools.partial(differentiated, unit), jit_compile=True)
    operations = ours.get_concrete_function(x, weights).graph.get_operations()
    assert [each.type for each in operations].count("Conv2DBackpropInput") == times


def test_of_unknown_activations_nothing_is_known():
    assert lean_passes.knows(None) and not lean_passes.knows("softmax")


def gradients_by_keras(layer, x, d):
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x)
    return outputs, *tape.gradient(outputs, [x, layer.kernel.value], d)


LAYERS = [
    (keras.layers.Conv2D, dict(filters=3, kernel_size=1)),
    (keras.layers.Conv2D, dict(filters=3, kernel_size=1, strides=2)),
    (keras.layers.Conv2D, dict(filters=3, kernel_size=3, strides=2)),
    (keras.layers.Conv2D, dict(filters=3, kernel_size=3, padding="valid")),
    *[
        (keras.layers.DepthwiseConv2D, dict(kernel_size=size, strides=strides))
        for size in (3, 5, 7)
        for strides in (1, 2)
    ],
]


@pytest.mark.parametrize("sides", [(7, 6), (1, 4)], ids=str)
@pytest.mark.parametrize("kind, arguments", LAYERS, ids=lambda value: str(value)[-60:])
def test_convolutions_equal_those_of_keras(kind, arguments, sides):
    if arguments.get("padding") and min(sides) < 3:
        pytest.skip("the kernel is larger than the map")
    layer = kind(**{"padding": "same", "use_bias": False, "dtype": "float64", **arguments})
    x = numbers(2, *sides, CHANNELS)
    d = numbers(*layer(x).shape, seed=9)
    ours, expected = convolution(layer), gradients_by_keras(layer, x, d)
    kernel = tf.constant(layer.kernel.value)
    found = ours.forward(x, kernel), ours.to_input(d, kernel, x), ours.to_kernel(x, d, kernel)
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        output = ours(x, kernel)
    called = output, *tape.gradient(output, [x, kernel], d)
    for pair in (*zip(found, expected, strict=True), *zip(called, expected, strict=True)):
        np.testing.assert_allclose(*pair, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv2D(4, 3, groups=2),
        keras.layers.Conv2D(4, (1, 3)),
        keras.layers.SeparableConv2D(4, 3),
        keras.layers.Dense(3),
    ],
)
def test_other_layers_are_no_convolutions(layer):
    assert convolution(layer) is None


def test_the_fused_statistics_are_those_of_float64():
    x = numbers(3, 5, 6, CHANNELS)
    gamma, beta, d = (numbers(*shape, seed=4) for shape in ((CHANNELS,), (CHANNELS,), x.shape))
    exact = lean_statistics.measured(x, gamma, beta, EPSILON)
    expected = lean_statistics.gradients(d, x, gamma, exact, EPSILON)
    x, gamma, beta, d = (tf.cast(each, "float32") for each in (x, gamma, beta, d))
    fused = lean_statistics.measured(x, gamma, beta, EPSILON)
    assert fused.kept and not exact.kept
    np.testing.assert_allclose(fused.variance, exact.variance, rtol=1e-5)
    for pair in zip(lean_statistics.gradients(d, x, gamma, fused, EPSILON), expected, strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("own", [True, False])
def test_gradients_by_statistics_that_nothing_was_kept_of(own):
    x, d, gamma = numbers(3, 5, 6, CHANNELS), numbers(3, 5, 6, CHANNELS, seed=4), numbers(CHANNELS)
    exact = lean_statistics.Statistics(*tf.nn.moments(x + 1, (0, 1, 2)), own=own)
    expected = lean_statistics.gradients(d, x, gamma, exact, EPSILON)
    x, d, gamma = (tf.cast(each, "float32") for each in (x, d, gamma))
    single = exact._replace(mean=tf.cast(exact.mean, "float32"))
    single = single._replace(variance=tf.cast(exact.variance, "float32"))
    found = lean_statistics.gradients(d, x, gamma, single, EPSILON)
    for pair in zip(found, expected, strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-5)


def test_gates_equal_the_layer():
    layer, x = layers.SqueezeExcite(2, dtype="float64"), numbers(2, 3, 3, CHANNELS)
    expected = layer(x) / x
    gates = layer.gates(tf.reduce_mean(x, (1, 2)), *layer.by_name().values())
    np.testing.assert_allclose(expected[:, 0, 0], gates, rtol=1e-9)
