"""layers/lean_norm.py: the fused batch norm is Keras' own, to rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers, variants
from effnet_tf.layers import lean_norm, lean_statistics
from effnet_tf.models import flat

pytestmark = pytest.mark.processor
SHAPES = [(4, 7, 6, 8), (1, 5, 3, 3), (1, 1, 1, 3), (2, 1, 9, 1)]


def maps(*shape):
    return tf.constant(np.random.default_rng(0).normal(3, 2, shape).astype("float32"))


def fused_keras(**arguments):
    layer = keras.layers.BatchNormalization(**arguments)
    lean_norm.fuse(layer)
    return layer


def trained(layer, inputs):
    """The outputs of a layer in training, the gradients of a function of them, its statistics."""
    layer.build(inputs.shape)
    layer.gamma.assign(np.linspace(0.5, 2, inputs.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, inputs.shape[-1]))
    variables = [weight.value for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        goal = tf.reduce_sum(tf.sin(3 * outputs))
    return outputs, *tape.gradient(goal, [inputs, *variables]), *layer.non_trainable_weights


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [layers.BatchNorm, fused_keras])
def test_equals_keras(make, shape):
    found = trained(make(momentum=0.5), maps(*shape))
    expected = trained(keras.layers.BatchNormalization(momentum=0.5), maps(*shape))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def operations(call, *inputs, **how):
    """The kinds of operations that a traced call consists of, of the functions in it, too."""
    graph = tf.function(call, **how).get_concrete_function(*inputs).graph
    found = {node.type for node in graph.get_operations()}
    for inner in graph.as_graph_def().library.function:
        found |= {node.op for node in inner.node_def}
    return found


@pytest.mark.parametrize("make", [layers.BatchNorm, fused_keras])
def test_is_fused_in_training_alone(make):
    layer, inputs = make(), maps(2, 4, 4, 3)
    layer.build(inputs.shape)
    assert "FusedBatchNormV3" in operations(lambda x: layer(x, training=True), inputs)
    assert "FusedBatchNormV3" not in operations(lambda x: layer(x, training=False), inputs)
    layer.trainable = False
    assert "FusedBatchNormV3" not in operations(lambda x: layer(x, training=True), inputs)


@pytest.mark.parametrize("mode", ["inference", "frozen"])
def test_other_modes_are_plain(mode):
    layer, inputs = layers.BatchNorm(mode), maps(2, 4, 4, 3)
    layer.build(inputs.shape)
    assert "FusedBatchNormV3" not in operations(lambda x: layer(x, training=True), inputs)


@pytest.mark.parametrize(
    "arguments, shape",
    [
        (dict(axis=1), (2, 4, 4, 3)),
        (dict(scale=False), (2, 4, 4, 3)),
        (dict(center=False), (2, 4, 4, 3)),
        (dict(dtype="float64"), (2, 4, 4, 3)),
        (dict(dtype="mixed_bfloat16"), (2, 4, 4, 3)),
        (dict(), (6, 3)),
    ],
)
@pytest.mark.parametrize("make", [layers.BatchNorm, fused_keras])
def test_what_it_cannot_do_is_left_to_keras(make, arguments, shape):
    inputs, theirs = maps(*shape), keras.layers.BatchNormalization(**arguments)
    layer = make(**arguments)
    expected = theirs(inputs, training=True)
    np.testing.assert_array_equal(layer(inputs, training=True), expected)
    np.testing.assert_array_equal(layer.moving_variance, theirs.moving_variance)


def test_a_mask_is_left_to_keras():
    inputs, theirs = maps(2, 4, 4, 3), keras.layers.BatchNormalization()
    mask = np.arange(32).reshape(2, 4, 4) % 3 > 0
    for layer in (layers.BatchNorm(), fused_keras()):
        np.testing.assert_array_equal(
            layer(inputs, training=True, mask=mask), theirs(inputs, training=True, mask=mask)
        )


def test_statistics_at_once_do_not_cancel_near_the_pivot():
    exact = np.random.default_rng(0).normal(3000, 1, (2, 8, 8, 3))
    x = tf.constant(exact, "float32")
    mean, variance, *_ = lean_statistics._measured_at_once(x, tf.fill((3,), 2990.0))
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2)), rtol=1e-3)


def test_xla_does_not_compile_the_fused_operation():
    layer, inputs = layers.BatchNorm(), maps(2, 4, 4, 3)
    layer.build(inputs.shape)
    found = operations(lambda x: layer(x, training=True), inputs, jit_compile=True)
    assert "FusedBatchNormV3" not in found


def test_replicas_that_share_statistics_have_those_of_both(mirrored):
    with mirrored.scope():
        alone, shared = layers.BatchNorm(), layers.BatchNorm(sync_replicas=2)
        for layer in (alone, shared):
            layer.build((None, 4, 4, 3))

    def both(x):
        scale = 1.0 + tf.cast(
            tf.distribute.get_replica_context().replica_id_in_sync_group, "float32"
        )
        return [layer(x * scale, training=True) for layer in (alone, shared)]

    inputs = maps(2, 4, 4, 3)
    own, together = mirrored.run(tf.function(both), args=(inputs,))
    for value in own.values:
        np.testing.assert_allclose(tf.reduce_mean(value, (0, 1, 2)), np.zeros(3), atol=1e-5)
    assert all(abs(float(tf.reduce_mean(value))) > 0.1 for value in together.values)


def test_the_drop_in_form_has_it():
    network = variants.resolve("b0")
    x = flat.convolution(network, network.stem, keras.Input((9, 9, 3)))
    stem = x._keras_history.operation.input._keras_history.operation
    assert type(stem) is keras.layers.BatchNormalization and stem.name == "stem_bn"
    found = operations(lambda x: stem(x, training=True), maps(1, 4, 4, 32))
    assert "FusedBatchNormV3" in found
