"""Which numbers do kernels begin with?

Normal ones, as Keras' initializers draw, but of NumPy's generators, which take little more than
half of the time of TensorFlow's operation: that was a third of what building B7 takes. They are
functions of the initializer's seed, whatever the devices.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def normal(deviation: float, seed: int) -> Callable[..., tf.Tensor]:
    """Returns an initializer: a function from a shape and a dtype to the values of a variable.

    Args:
        deviation: of the normal numbers, whose mean is 0; none is cut off.
        seed: of the numbers, at least 0.
    """

    def values(shape: tuple[int, ...], dtype: str = "float32") -> tf.Tensor:
        if not tf.executing_eagerly():  # as constants the numbers would be in the graph
            return tf.random.stateless_normal(shape, [seed, 0], stddev=deviation, dtype=dtype)
        precision = np.float64 if dtype == "float64" else np.float32
        random = np.random.Generator(np.random.SFC64(seed))
        numbers = random.standard_normal(shape, precision)
        numbers *= precision(deviation)
        return tf.cast(numbers, dtype)

    return values
