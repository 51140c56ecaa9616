"""layers/mbconv.py: what a block computes, beyond what the conformance table asks of all."""

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf.layers import mbconv

pytestmark = pytest.mark.processor


class TestMBConv:
    def test_without_expansion_has_no_expansion_weights(self):
        layer = mbconv.MBConv(16, 32)
        layer.build((None, None, None, 32))
        assert [w.path.split("/")[-2] for w in layer.trainable_weights] == [
            "dwconv",
            "bn",
            "bn",
            "project_conv",
            "project_bn",
            "project_bn",
        ]

    @pytest.mark.parametrize(
        "arguments, adds",
        [
            (dict(filters=8), True),
            (dict(filters=8, skip=False), False),
            (dict(filters=16), False),
            (dict(filters=8, strides=2), False),
        ],
    )
    @pytest.mark.parametrize("kind", [mbconv.MBConv, mbconv.FusedMBConv])
    def test_adds_its_input_where_it_may(self, kind, arguments, adds):
        layer = kind(expanded_filters=16, **arguments)
        inputs = tf.random.normal((1, 4, 4, 8))
        layer(inputs)
        # With a projection of 0 only the residual is left.
        layer.project_conv.kernel.assign(tf.zeros_like(layer.project_conv.kernel))
        outputs = np.asarray(layer(inputs))
        assert np.array_equal(outputs, inputs) if adds else not outputs.any()

    def test_drops_the_branch_not_the_residual(self):
        layer = mbconv.MBConv(8, 16, drop_connect_rate=0.999)
        inputs = tf.random.normal((64, 4, 4, 8))
        outputs = np.asarray(layer(inputs, training=True))
        unchanged = (outputs == np.asarray(inputs)).all(axis=(1, 2, 3))
        assert unchanged.mean() > 0.9

    def test_initialises_as_the_original(self):
        # FACTS.md 1.3: untruncated normal, sqrt(2 / k^2) for depthwise kernels.
        layer = mbconv.MBConv(512, 1024, kernel_size=3)
        layer.build((None, None, None, 128))
        depthwise = layer.dwconv.kernel.numpy()
        assert depthwise.std() == pytest.approx(np.sqrt(2 / 9), rel=0.03)
        assert np.abs(depthwise).max() > 2.5 * depthwise.std()  # a truncated one ends at 2.3
        assert layer.project_conv.kernel.numpy().std() == pytest.approx(np.sqrt(2 / 512), rel=0.02)

    def test_batch_norm_has_the_original_constants(self):
        layer = mbconv.MBConv(8, 16)
        layer.build((None, None, None, 8))
        assert {
            (bn.momentum, bn.epsilon) for bn in (layer.expand_bn, layer.bn, layer.project_bn)
        } == {(0.99, 1e-3)}

    def test_frozen_before_it_is_built(self):
        # As a block is that comes from a file: what it is made of must be frozen, too.
        layer = mbconv.MBConv(8, 16, se_filters=2, trainable=False)
        layer.build((None, None, None, 8))
        inputs = tf.random.normal((2, 4, 4, 8), mean=3.0)
        np.testing.assert_array_equal(layer(inputs, training=True), layer(inputs))
        assert not layer.bn.trainable and not layer.se.reduce.trainable

    @pytest.mark.parametrize("kind", [mbconv.MBConv, mbconv.FusedMBConv])
    def test_dilation_sees_every_other_pixel(self, kind):
        # On every second pixel a dilated block is the plain one on the smaller map.
        plain, dilated = kind(8, 16), kind(8, 16, dilation_rate=2)
        inputs = tf.random.normal((2, 9, 9, 8))
        plain(inputs), dilated(inputs)
        dilated.set_weights(plain.get_weights())
        np.testing.assert_allclose(
            dilated(inputs)[:, ::2, ::2], plain(inputs[:, ::2, ::2]), atol=1e-5
        )

    def test_an_unknown_batch_norm_mode(self):
        with pytest.raises(ValueError, match="batch_norm is 'off'; it must be one of 'trainable'"):
            mbconv.MBConv(8, 16, batch_norm="off")


@pytest.mark.parametrize("kind", [mbconv.MBConv, mbconv.FusedMBConv])
def test_blocks_have_the_kernels_of_their_description(kind):
    layer = kind(8, 16, kernel_size=5, strides=2, se_filters=2)
    assert layer.convolutions == ()
    layer.build((None, None, None, 8))
    parts = {"se/reduce": "se.reduce", "se/expand": "se.expand"}
    parameters = 0
    for convolution in layer.convolutions:
        part = layer
        for name in parts.get(convolution.name, convolution.name).split("."):
            part = getattr(part, name)
        assert tuple(part.kernel.shape) == convolution.kernel_shape
        assert part.use_bias == convolution.use_bias
        parameters += convolution.parameters
    assert layer.count_params() == parameters


@pytest.mark.parametrize("layer", [mbconv.MBConv(8, 16), effnet_tf.SqueezeExcite(2)])
def test_unknown_channels_are_refused(layer):
    with pytest.raises(ValueError, match="the channels, must be known"):
        layer.build((None, 4, 4, None))


def test_layers_are_public():
    assert effnet_tf.MBConv is mbconv.MBConv
