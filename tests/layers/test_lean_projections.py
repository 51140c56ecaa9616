"""layers/lean_projections.py: a gated projection in pieces is one that exists as a whole."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.layers import blocks, lean_pieces
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_projections import Projection
from effnet_tf.layers.lean_units import Unit
from effnet_tf.layers.squeeze_excite import SqueezeExcite
from effnet_tf.variants import describe_mbconv
from tests.helpers.gradients import block_gradients

PRODUCT, WIDE, NARROW = LeanConvolution(False, 1), 6, 3


def numbers(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(0.3, 1, shape))


def weights():
    shapes = dict(gamma=(WIDE,), beta=(WIDE,), kernel=(1, 1, WIDE, NARROW), squeeze=(WIDE, WIDE))
    return {name: numbers(*shape, seed=seed) for seed, (name, shape) in enumerate(shapes.items())}


def gates(mean, squeeze):
    return tf.sigmoid(mean @ squeeze)


def differentiated(unit, x, named):
    with tf.GradientTape() as outer:
        outer.watch([x, named])
        with tf.GradientTape() as tape:
            tape.watch([x, named])
            outputs = unit(x, named)
            goal = tf.reduce_sum(tf.sin(outputs[0]))
        found = tf.nest.flatten(tape.gradient(goal, [x, named]))
        penalty = tf.add_n([tf.reduce_sum(each**2) for each in found])
    return [*outputs, *found, *tf.nest.flatten(outer.gradient(penalty, [x, named]))]


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("side", [4, 1])  # of one pixel gates do not go into the kernel
def test_equals_a_whole_one(images, side, monkeypatch):
    x, given = numbers(5, side, 3, WIDE, seed=9), (1e-3, "swish", PRODUCT, gates)
    monkeypatch.setattr(lean_pieces, "MEGABYTES", (images + 0.5) * side * 3 * WIDE * 8 / 10**6)
    assert len(lean_pieces.pieces(x, WIDE)) == -(-5 // images)
    ours, theirs = (differentiated(kind(*given), x, weights()) for kind in (Projection, Unit))
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_images_of_any_number():
    unit, found = Projection(1e-3, "swish", PRODUCT, gates), []

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 3, WIDE), "float64")])
    def gradients(x):
        return tf.gradients(tf.sin(unit(x, weights())[0]), x)[0]

    x = numbers(3, 4, 3, WIDE)
    found = gradients(x), differentiated(Unit(*dataclass_of(unit)), x, weights())[3]
    np.testing.assert_allclose(*found, rtol=1e-8, atol=1e-9)


def dataclass_of(unit):
    return unit.epsilon, unit.activation, unit.convolution, unit.excite


@pytest.mark.slow  # XLA compiles each shape
def test_compiled_pieces_in_float32(monkeypatch):
    monkeypatch.setattr(lean_pieces, "MEGABYTES", 2.5 * 4 * 3 * WIDE * 4 / 10**6)
    x, named = numbers(5, 4, 3, WIDE), weights()
    single = {name: tf.cast(each, "float32") for name, each in named.items()}
    unit = Projection(1e-3, "swish", PRODUCT, gates)

    @tf.function
    def gradients(x, named):
        with tf.GradientTape() as tape:
            tape.watch([x, named])
            goal = tf.reduce_sum(tf.sin(unit(x, named)[0]))
        return tf.nest.flatten(tape.gradient(goal, [x, named]))

    exact = differentiated(Unit(*dataclass_of(unit)), x, named)[3:8]
    for found, expected in zip(gradients(tf.cast(x, "float32"), single), exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_block_that_is_computed_again_takes_it(monkeypatch):
    taken, plain = [], Projection._backward
    monkeypatch.setattr(
        Projection, "_backward", lambda unit, *given: taken.append(unit) or plain(unit, *given)
    )
    block = blocks.DescribedBlock(describe_mbconv(3, 6, 4, se_filters=2), dtype="float64")
    x, found = numbers(3, 5, 4, 3), []
    block.build(x.shape)
    assert isinstance(block.se, SqueezeExcite)
    for block.remat in ("none", "block"):
        found.append(block_gradients(block, x))
    assert len(taken) == 1
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)
    block.bn.mode = "inference"  # the depthwise convolution's
    with tf.GradientTape() as tape:
        goal = tf.reduce_sum(block(x, training=True))
    tape.gradient(goal, block.bn.gamma.value)
    assert len(taken) == 1
