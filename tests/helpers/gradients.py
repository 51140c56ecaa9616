"""Gradients of a block, as tests of its forms compare them."""

import tensorflow as tf


def block_gradients(block, x):
    """Returns the gradients of a map x and of what trains in a block, in training."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        goal = tf.reduce_sum(tf.sin(block(x, training=True)))
    return tape.gradient(goal, [x, *(each.value for each in block.trainable_weights)])
