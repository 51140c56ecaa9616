"""optimizers.py: RMSProp is one operation for a variable, and Keras' formula all the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import optim

START = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
GRADIENTS = np.random.default_rng(1).normal(size=(4, 3, 4)).astype("float32")


def keras_formula(**arguments):
    """Keras' own RMSprop, with TF1's start."""
    optimizer = keras.optimizers.RMSprop(**arguments)

    def start(variables):
        optimizer.build(variables)
        for velocity in optimizer._velocities:
            velocity.assign(tf.ones_like(velocity))

    return optimizer, start


def trajectory(optimizer, build, gradients=GRADIENTS):
    variable = keras.Variable(START)
    build([variable])
    for gradient in gradients:
        if not isinstance(gradient, tf.IndexedSlices):
            gradient = tf.constant(gradient)
        optimizer.apply([gradient], [variable])
    return [variable.numpy(), *[slot.numpy() for slot in optimizer.variables[2:]]]


@pytest.mark.parametrize(
    "arguments",
    [
        dict(momentum=0.9),
        dict(momentum=0.9, epsilon=1e-3, rho=0.5),
        dict(momentum=0.0),
        dict(momentum=0.9, centered=True),
        dict(momentum=0.9, weight_decay=0.01, clipnorm=0.5, use_ema=True),
    ],
    ids=str,
)
def test_is_keras_formula(arguments):
    ours = optim.RMSprop(0.05, **arguments)
    theirs, build = keras_formula(learning_rate=0.05, **arguments)
    found, expected = trajectory(ours, ours.build), trajectory(theirs, build)
    for pair in zip(found, expected, strict=True):
        np.testing.assert_allclose(*pair, rtol=2e-5, atol=1e-6)


def test_rows_of_a_gradient_are_left_to_keras():
    rows = [tf.IndexedSlices(GRADIENTS[0, :2], tf.constant([0, 2]), tf.constant(START.shape))]
    ours = optim.RMSprop(0.05, momentum=0.9)
    theirs, build = keras_formula(learning_rate=0.05, momentum=0.9)
    for pair in zip(trajectory(ours, ours.build, rows), trajectory(theirs, build, rows)):
        np.testing.assert_allclose(*pair, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_one_operation_unless_xla_compiles(compiled):
    variable, optimizer = keras.Variable(START), optim.RMSprop(0.05, momentum=0.9)
    optimizer.build([variable])

    @tf.function(jit_compile=compiled)
    def step(gradient):
        optimizer.apply([gradient], [variable])

    graph = step.get_concrete_function(tf.constant(GRADIENTS[0])).graph
    found = [node.type for node in graph.get_operations()]
    assert found.count("ResourceApplyRMSProp") == (0 if compiled else 1)


def test_replicas_have_the_sum_of_their_gradients(mirrored):
    with mirrored.scope():
        variable, optimizer = keras.Variable(START), optim.RMSprop(0.05, momentum=0.9)
        optimizer.build([variable])

    @tf.function
    def step(gradient):
        optimizer.apply([gradient / 2], [variable])

    for gradient in GRADIENTS:
        mirrored.run(step, args=(tf.constant(gradient),))
    alone = optim.RMSprop(0.05, momentum=0.9)
    expected = trajectory(alone, alone.build)[0]
    for copy in variable.value.values:
        np.testing.assert_allclose(copy, expected, rtol=1e-5, atol=1e-6)
