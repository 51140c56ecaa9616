"""How are the variables of a model made in less time?

TensorFlow makes a kernel for every name that it has not met, and keeps it. Keras hands it the whole
path, such as block1a/expand_conv/kernel, which no other variable has: a third of the time in which
B7 is built. Under the last part alone, all kernels of a shape share one. Keras' own names and
paths, which files go by, do not know of it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf


@contextlib.contextmanager
def short_names() -> Iterator[None]:
    """Makes the variables of a function, or of a block of code, under the last part of their path.

    Not in graphs of TensorFlow 1, where variables of one name are one.
    """
    if not tf.compat.v1.executing_eagerly_outside_functions():
        yield
        return
    with tf.variable_creator_scope(_without_scope):
        yield


def _without_scope(create: Callable[..., tf.Variable], **settings: Any) -> tf.Variable:
    # To TensorFlow a name that ends so is the whole one, in no scope.
    return create(**{**settings, "name": f"{settings['name']}/"})
