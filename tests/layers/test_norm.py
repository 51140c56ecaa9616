"""layers/norm.py: batch norm that can be frozen."""

import keras
import numpy as np
import pytest

import effnet_tf
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
            np.testing.assert_allclose(
                ours(self.INPUTS, training=training),
                theirs(self.INPUTS, training=training),
                atol=1e-5,
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

    @pytest.mark.parametrize("said", [True, False])
    def test_after_frozen_counts_what_the_user_said(self, said):
        layer = layers.BatchNorm("frozen")
        layer.build((None, 3, 3, 2))
        layer.trainable = said
        assert not layer.trainable and not layer.trainable_weights
        again = layers.BatchNorm.from_config(layer.get_config())
        again.build((None, 3, 3, 2))
        for each in (layer, again):
            each.mode = "trainable"
            assert len(each.trainable_weights) == (2 if said else 0)
            assert each.trainable == said

    @pytest.mark.parametrize("said", [True, False])
    def test_so_it_does_in_a_block(self, said):
        block = layers.MBConv(4, 8)
        block.build((None, 8, 8, 4))
        before = [weight.path for weight in block.trainable_weights]
        block.batch_norm = "frozen"
        block.bn.trainable = said
        block.batch_norm = "trainable"
        without = [path for path in before if not said and "/bn/" in path]
        after = [weight.path for weight in block.trainable_weights]
        assert after == [path for path in before if path not in without]
        block.batch_norm = "frozen"
        block.trainable = False
        block.batch_norm = "trainable"
        assert not block.trainable_weights

    def test_what_is_set_later_is_saved(self):
        layer = layers.BatchNorm()
        layer.momentum, layer.sync_replicas = 0.5, 4
        again = layers.BatchNorm.from_config(layer.get_config())
        assert (again.momentum, again.sync_replicas) == (0.5, 4)

    def test_what_is_set_in_a_block_later_is_saved(self):
        block = layers.MBConv(4, 8, drop_connect_rate=0.5)
        block.build((None, 8, 8, 4))
        for layer in (block.expand_bn, block.bn, block.project_bn):
            layer.momentum, layer.sync_replicas, layer.mode = 0.5, 4, "inference"
        block.drop_connect.rate = 0.25
        again = layers.MBConv.from_config(block.get_config())
        again.build((None, 8, 8, 4))
        for layer in (again.expand_bn, again.bn, again.project_bn):
            assert (layer.momentum, layer.sync_replicas, layer.mode) == (0.5, 4, "inference")
        assert again.drop_connect.rate == 0.25

    def test_replicas_that_cannot_be_grouped(self):
        layer = layers.BatchNorm(sync_replicas=3)
        assert [layer._group_of(replicas).size for replicas in (2, 3, 6)] == [2, 3, 3]
        with pytest.raises(effnet_tf.InputError, match="3 replicas, and there are 4"):
            layer._group_of(4)
