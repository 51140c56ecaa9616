"""Which operations on images does XLA compile for the host's processor?"""

import functools
from collections.abc import Callable

import tensorflow as tf

from effnet_tf.messages import log

_trial = tf.function(tf.negative, jit_compile=True)


@functools.cache
def _compiles() -> bool:
    """Whether this host compiles for its own CPU: tensorflow-tpu does not."""
    try:
        with tf.init_scope(), tf.device("CPU:0"):
            _trial(1.0)
    except tf.errors.OpError:
        log.info(
            "This TensorFlow cannot compile for the CPU (tensorflow-tpu): AutoAugment and "
            "RandAugment run uncompiled, about 1.2 times slower."
        )
        return False
    return True


def compiled(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Has XLA compile an operation that becomes faster: once per size, in tf.data.

    Not outside of a graph, nor for images of unknown size: each would be compiled anew.
    """
    compiled = tf.function(function, autograph=False, jit_compile=True)

    @functools.wraps(function)
    def operation(image, *numbers):
        if tf.executing_eagerly() or not image.shape.is_fully_defined() or not _compiles():
            return function(image, *numbers)
        return compiled(image, *(tf.convert_to_tensor(n, tf.float32) for n in numbers))

    return operation
