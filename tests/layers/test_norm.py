"""layers/norm.py: batch norm that can be frozen, and the batch norms of a model."""

import keras
import numpy as np
import pytest

from effnet_tf import layers

pytestmark = pytest.mark.processor


class TestBatchNorm:
    INPUTS = np.random.default_rng(0).normal(5, 2, (4, 3, 3, 2)).astype("float32")

    @pytest.mark.parametrize("mode", ["inference", "frozen"])
    def test_uses_and_keeps_moving_statistics_in_training(self, mode):
        layer = layers.BatchNorm(mode)
        layer.build((None, 3, 3, 2))
        layer.moving_mean.assign([1.0, 2.0])
        outputs = layer(self.INPUTS, training=True)
        np.testing.assert_allclose(outputs, (self.INPUTS - [1, 2]) / np.sqrt(1 + 1e-3), rtol=1e-5)
        np.testing.assert_array_equal(layer.moving_mean, [1, 2])
        assert len(layer.trainable_weights) == (2 if mode == "inference" else 0)

    def test_trainable_is_keras_own(self):
        ours, theirs = layers.BatchNorm(), keras.layers.BatchNormalization()
        for training in (True, False):
            np.testing.assert_array_equal(
                ours(self.INPUTS, training=training), theirs(self.INPUTS, training=training)
            )

    def test_the_mode_can_change(self):
        layer = layers.BatchNorm("frozen")
        layer.build((None, 3, 3, 2))
        layer.trainable = True
        assert not layer.trainable_weights
        layer.mode = "trainable"
        layer.trainable = True
        assert len(layer.trainable_weights) == 2
        with pytest.raises(ValueError, match="must be one of"):
            layer.mode = "of course"


def test_batch_norms_of_blocks_and_nested_models_are_found():
    inputs = keras.Input((8, 8, 4))
    block = layers.MBConv(4, 8)
    inner = keras.Model(inputs, block(layers.batch_norm("outside")(inputs)))
    outer = keras.Model(inputs, inner(inputs))
    names = ["outside", "expand_bn", "bn", "project_bn"]
    assert sorted(layer.name for layer in layers.batch_norms(outer)) == sorted(names)
    assert [layer.name for layer in layers.flatten(outer)][-2:] == ["outside", block.name]
