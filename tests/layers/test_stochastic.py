"""layers/stochastic.py: what is dropped, and by which random numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers

pytestmark = pytest.mark.processor


def run_replicas(count, function):
    """Returns what `function` gives on each of `count` replicas."""
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
    with strategy.scope():
        call = function()
    return strategy.experimental_local_results(tf.function(lambda: strategy.run(call))())


class TestDropConnect:
    def test_keeps_or_drops_whole_images_and_keeps_the_mean(self):
        layer = layers.DropConnect(0.25, seed=3)
        outputs = np.asarray(layer(tf.ones((4000, 2, 2, 3)), training=True))
        per_image = outputs.reshape(4000, -1)
        assert (per_image == per_image[:, :1]).all()
        np.testing.assert_allclose(np.unique(per_image), [0, 1 / 0.75], rtol=1e-6)
        assert outputs.mean() == pytest.approx(1, abs=0.03)

    def test_is_the_identity_at_inference_and_at_rate_0(self):
        inputs = tf.random.normal((3, 2, 2, 1))
        assert layers.DropConnect(0.9)(inputs, training=False) is inputs
        assert layers.DropConnect(0.0)(inputs, training=True) is inputs

    def test_masks_change_from_call_to_call_and_repeat_with_the_seed(self):
        def masks():
            layer = layers.DropConnect(0.5, seed=7)
            return [np.asarray(layer(tf.ones((64, 1)), training=True)) for _ in range(2)]

        first, again = masks(), masks()
        assert (first[0] != first[1]).any()
        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_rate_out_of_range(self, rate):
        with pytest.raises(ValueError, match=r"rate in \[0, 1\)"):
            layers.DropConnect(rate)


@pytest.mark.parametrize("kind", [layers.DropConnect, layers.Dropout])
def test_replicas_draw_different_masks(kind):
    # Keras' own SeedGenerator gives every replica the same numbers.
    def function():
        layer = kind(0.5, seed=1)
        return lambda: layer(tf.ones((256, 1, 1, 1)), training=True)

    one, two = run_replicas(2, function)
    assert (one.numpy() != two.numpy()).mean() > 0.3


def test_dropout_is_keras_dropout():
    layer = layers.Dropout(0.2, seed=1)
    outputs = np.asarray(layer(tf.ones((100, 1000)), training=True))
    np.testing.assert_allclose(np.unique(outputs), [0, 1.25], rtol=1e-6)
    assert outputs.mean() == pytest.approx(1, abs=0.01)
    assert isinstance(layer, keras.layers.Dropout)
