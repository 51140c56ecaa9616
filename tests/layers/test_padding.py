"""Symmetric padding, PyTorch's, against convolutions written out in NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import InputError, variants
from effnet_tf.layers import mbconv

pytestmark = pytest.mark.processor

RANDOM = np.random.default_rng(0)


def symmetric(images, kernel, strides, dilation=1):
    """torch.nn.functional.conv2d(padding=k // 2 * dilation), channels last.

    images (N, H, W, C), kernel (k, k, C, F) -> (N, (H - 1) // strides + 1, ..., F).
    """
    zeros = kernel.shape[0] // 2 * dilation
    padded = np.pad(images, [(0, 0), (zeros, zeros), (zeros, zeros), (0, 0)])
    height, width = ((side - 1) // strides + 1 for side in images.shape[1:3])
    found = np.zeros((len(images), height, width, kernel.shape[-1]))
    for row in range(height):
        for column in range(width):
            y, x = row * strides, column * strides
            reach = dilation * kernel.shape[0]
            window = padded[:, y : y + reach : dilation, x : x + reach : dilation]
            found[:, row, column] = np.tensordot(window, kernel, 3)
    return found


def bare(layer, inputs, kernel):
    """What a block gives if all it does is its first convolution."""
    layer(inputs)
    for each in layer._flatten_layers():
        if isinstance(each, keras.layers.BatchNormalization):
            each.moving_variance.assign(tf.ones_like(each.moving_variance) - each.epsilon)
    first = getattr(layer, layer.convolutions[0].name)
    first.kernel.assign(kernel)
    layer.project_conv.kernel.assign(np.eye(layer.filters)[None, None])
    return layer(inputs)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("strides, dilation", [(1, 1), (2, 1), (1, 2)])
class TestAgainstNumPy:
    IMAGES = RANDOM.normal(size=(2, 8, 7, 3)).astype("float32")

    def test_depthwise(self, size, strides, dilation):
        kernel = RANDOM.normal(size=(size, size, 3, 1))
        layer = mbconv.MBConv(
            3,
            3,
            size,
            strides,
            activation="linear",
            skip=False,
            dilation_rate=dilation,
            padding="symmetric",
        )
        full = np.zeros((size, size, 3, 3))
        for channel in range(3):
            full[:, :, channel, channel] = kernel[:, :, channel, 0]
        expected = symmetric(self.IMAGES, full, strides, dilation)
        found = bare(layer, self.IMAGES, kernel)
        assert found.shape == layer.compute_output_shape(self.IMAGES.shape)
        np.testing.assert_allclose(found, expected, atol=2e-5)

    def test_full(self, size, strides, dilation):
        kernel = RANDOM.normal(size=(size, size, 3, 4))
        layer = mbconv.FusedMBConv(
            4, 4, size, strides, activation="linear", dilation_rate=dilation, padding="symmetric"
        )
        expected = symmetric(self.IMAGES, kernel, strides, dilation)
        np.testing.assert_allclose(bare(layer, self.IMAGES, kernel), expected, atol=5e-5)


class TestLayers:
    def test_the_padding_is_in_the_config(self):
        layer = mbconv.MBConv(8, 16, strides=2, padding="symmetric")
        again = mbconv.MBConv.from_config(layer.get_config())
        images = RANDOM.normal(size=(1, 8, 8, 8)).astype("float32")
        layer(images), again(images)
        again.set_weights(layer.get_weights())
        np.testing.assert_array_equal(layer(images), again(images))

    def test_a_config_of_before_is_same(self):
        config = mbconv.MBConv(8, 16).get_config()
        del config["padding"]
        assert mbconv.MBConv.from_config(config).padding == "same"

    @pytest.mark.parametrize("side, differs", [(8, True), (9, False)])
    def test_same_is_symmetric_on_odd_sides_alone(self, side, differs):
        images = RANDOM.normal(size=(1, side, side, 8)).astype("float32")
        same, other = (mbconv.MBConv(8, 16, 5, 2, padding=each) for each in ("same", "symmetric"))
        same(images), other(images)
        other.set_weights(same.get_weights())
        difference = np.abs(same(images) - other(images)).max()
        assert difference > 0.1 if differs else difference < 1e-6


class TestRows:
    def test_every_convolution_of_the_network_has_it(self):
        row = dataclasses.replace(effnet_tf.VARIANTS["edgetpu-s"], padding="symmetric")
        found = {
            each.name: each.explicit_padding
            for each in variants.resolve(row).convolutions()
            if each.strides > 1
        }
        assert found == {  # stem, two fused blocks, two of depthwise kernels of 5 pixels
            "stem_conv": (1, 1),
            "blocks_1/expand_conv": (1, 1),
            "blocks_3/expand_conv": (1, 1),
            "blocks_7/dwconv": (2, 2),
            "blocks_16/dwconv": (2, 2),
        }

    def test_it_costs_the_same(self):
        row = dataclasses.replace(effnet_tf.VARIANTS["b3"], padding="symmetric")
        for side in (75, 300):
            ours = variants.cost(row, resolution=side)
            assert ours == variants.cost("b3", resolution=side)

    def test_an_unknown_padding_is_refused(self):
        row = dataclasses.replace(effnet_tf.VARIANTS["b0"], padding="valid")
        with pytest.raises(InputError, match="padding of variant 'b0' is 'valid'; it must be"):
            variants.resolve(row)

    def test_even_kernels_have_no_middle(self):
        stages = (variants.Stage(16, 1, 4, 1, 1, 32),)
        row = dataclasses.replace(effnet_tf.VARIANTS["b0"], padding="symmetric", stages=stages)
        with pytest.raises(InputError, match="kernel of 4 pixels: only odd ones"):
            variants.resolve(row)
