"""layers/squeeze_excite.py: the mean of a whole map, whatever the dtype policy."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers

pytestmark = pytest.mark.processor


def test_squeeze_excite_mean_is_float32_in_half_precision():
    # The sum of 128 x 128 pixels of 100 overflows float16; the mean does not.
    layer = layers.SqueezeExcite(1, dtype="mixed_float16")
    outputs = np.asarray(layer(tf.fill((1, 128, 128, 2), tf.constant(100, tf.float16))))
    assert np.isfinite(outputs).all()
