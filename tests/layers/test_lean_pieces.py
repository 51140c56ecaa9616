"""layers/lean_pieces.py: an expansion in pieces is one that exists as a whole."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.layers import blocks, lean, lean_pieces
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_pieces import Expansion
from effnet_tf.layers.lean_units import Unit
from tests.helpers.gradients import block_gradients

EPSILON, NARROW, WIDE = 1e-3, 3, 8
DEPTHWISE = LeanConvolution(True, 5, 2)


def numbers(*shape, seed=0, mean=0.3, dtype="float64"):
    return tf.constant(np.random.default_rng(seed).normal(mean, 1, shape), dtype)


def weights(kind):
    filters = 1 if kind.depthwise else 2
    return {
        "gamma": numbers(WIDE, seed=1),
        "beta": numbers(WIDE, seed=2),
        "kernel": numbers(kind.size, kind.size, WIDE, filters, seed=3),
        "first": numbers(1, 1, NARROW, WIDE, seed=4),
    }


def differentiated(function, x, named):
    with tf.GradientTape() as tape:
        tape.watch([x, named])
        outputs = function(x, named)
        goal = tf.reduce_sum(tf.sin(outputs[0]))
    return [*outputs, *tf.nest.flatten(tape.gradient(goal, [x, named]))]


def pieces_of(images, monkeypatch, x):
    """From now on a piece has so many images of x."""
    bytes_each = int(np.prod(x.shape[1:3])) * WIDE * x.dtype.size
    monkeypatch.setattr(lean_pieces, "MEGABYTES", (images + 0.5) * bytes_each / 10**6)


@pytest.mark.parametrize("images", [2, 5])
@pytest.mark.parametrize("kind", [DEPTHWISE, LeanConvolution(False, 1)])
def test_equals_a_whole_one(kind, images, monkeypatch):
    x = numbers(5, 7, 6, NARROW)
    pieces_of(images, monkeypatch, x)
    assert len(lean_pieces.pieces(x, WIDE)) == -(-5 // images)
    whole = Unit(EPSILON, "swish", kind, first=LeanConvolution(False, 1))
    ours, theirs = (
        differentiated(unit, x, weights(kind))
        for unit in (Expansion(EPSILON, "swish", kind), whole)
    )
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_pieces_of_one_image_and_of_unknown_batches():
    assert lean_pieces.pieces(numbers(1, 4, 4, NARROW), WIDE) == [(0, 1)]
    found = []

    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, NARROW))])
    def trace(x):
        found.extend(lean_pieces.pieces(x, WIDE))
        return x

    trace.get_concrete_function()
    assert found == [(0, None)]


def test_a_mean_far_above_the_deviation_leaves_the_variance():
    x = numbers(4, 8, 8, NARROW, mean=300.0)
    exact = Expansion(EPSILON, "swish", DEPTHWISE)(x, weights(DEPTHWISE))
    half = {name: tf.cast(value, "float32") for name, value in weights(DEPTHWISE).items()}
    single = Expansion(EPSILON, "swish", DEPTHWISE)(tf.cast(x, "float32"), half)
    np.testing.assert_allclose(single[2], exact[2], rtol=1e-3)


@pytest.mark.slow  # XLA compiles each shape
def test_compiled_pieces_are_in_order(monkeypatch):
    x = numbers(4, 5, 5, NARROW)
    pieces_of(2, monkeypatch, x)
    unit = Expansion(EPSILON, "relu6", DEPTHWISE)
    compiled = tf.function(lambda x, named: differentiated(unit, x, named))
    eager = differentiated(unit, x, weights(DEPTHWISE))
    for found, expected in zip(compiled(x, weights(DEPTHWISE)), eager, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_a_block_takes_it_where_it_fits(monkeypatch):
    taken = []
    monkeypatch.setattr(Expansion, "__call__", lambda unit, x, named: taken.append(unit) or 1 / 0)
    block = blocks.DescribedBlock(_mbconv(), dtype="float64")
    x = numbers(2, 5, 5, NARROW)
    block.build(x.shape)
    monkeypatch.setitem(lean.WIDENED_AGAIN, "none", NARROW - 1)
    block(x, training=True)
    assert not taken
    block.remat = "expansion"
    with pytest.raises(ZeroDivisionError):
        block(x, training=True)
    assert taken[0].following == LeanConvolution(True, 3)
    block.expand_bn.mode = "inference"
    block(x, training=True)
    assert len(taken) == 1


@pytest.mark.parametrize("remat", ["none", "expansion"])
def test_an_expansion_is_computed_again_where_it_is_cheap(remat, monkeypatch):
    taken, whole = [], Expansion.__call__
    monkeypatch.setattr(Expansion, "__call__", lambda *given: taken.append(1) or whole(*given))
    x, found = numbers(3, 5, 5, NARROW), []
    block = blocks.DescribedBlock(_mbconv(), dtype="float64")
    block.build(x.shape)
    block.remat = remat
    for cheap in (NARROW, NARROW - 1):
        monkeypatch.setitem(lean.WIDENED_AGAIN, remat, cheap)
        found.append(block_gradients(block, x))
    assert len(taken) == 1
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


def _mbconv():
    from effnet_tf.variants import describe_mbconv

    return describe_mbconv(NARROW, WIDE, NARROW)
