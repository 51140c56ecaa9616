"""export/folding.py: what is folded, in which form of a network, and that nothing changes."""

import collections
import dataclasses

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf.export import folding
from tests.helpers import flat_net, tiny_net

L = keras.layers
TINY = tiny_net.scaled(-8)


def kinds(model):
    """How many operations of each kind a model has."""
    return collections.Counter(type(each).__name__ for each in model.operations)


def difference(model, images, *, scale=1.0):
    """The largest between a model and its folded self."""
    before, after = (
        np.asarray(each(images, training=False), "float32") for each in (model, folding.fold(model))
    )
    return np.abs(before - after).max() / scale


def pixels(*shape):
    return np.random.default_rng(1).integers(0, 256, shape).astype("float32")


@pytest.fixture(scope="module")
def flat():
    return flat_net.tiny()


class TestNetworksOfStockLayers:
    def test_compute_the_same(self, flat):
        assert difference(flat, pixels(4, 32, 32, 3)) < 1e-5

    def test_hold_what_composite_ones_hold(self, flat):
        composite = kinds(folding.fold(effnet_tf.model_fn(TINY, 3, input_shape=(32, 32, 3))))
        found = kinds(folding.fold(flat))
        assert set(found) == set(composite) | {"Add"}
        assert found["Subtract"] == found["Dense"] == 1

    def test_take_the_mean_off_whole_rows(self, flat):
        """Three numbers at a time are slow in TFLite."""
        found = [each for each in folding.fold(flat).operations if "subtract" in each.name]
        ((_, mean),) = [each._inbound_nodes[0].arguments.args for each in found]
        assert mean.shape == (1, 1, 32, 3)

    def test_names(self, flat):
        names = [layer.name for layer in folding.fold(flat).layers]
        assert names[:6] == [
            "images",
            "stem_conv",
            "stem_activation",
            "block1a_dwconv",
            "block1a_activation",
            "block1a_se_squeeze",
        ]
        assert not [name for name in names if name.endswith("_2")]

    @pytest.mark.parametrize("side", [33, 34, None])
    def test_any_side(self, side):
        """Of unknown sides nobody knows what SAME would be: the padding stays."""
        model = flat_net.tiny(side)
        folded = folding.fold(model)
        assert ("ZeroPadding2D" in kinds(folded)) == (side is None)
        for height, width in ((33, 33), (34, 34)):
            if side in (None, height):
                images = pixels(2, height, width, 3)
                np.testing.assert_allclose(folded(images), model(images), atol=1e-5)

    def test_half_precision(self):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = flat_net.tiny()
        finally:
            keras.config.set_dtype_policy("float32")
        folded = folding.fold(model)
        assert {layer.compute_dtype for layer in folded.layers} == {"float32"}
        assert difference(model, pixels(4, 32, 32, 3)) < 0.05


class TestSymmetricPadding:
    """On odd sides it is SAME; on even ones the zeros stay, with constants that are no zeros."""

    ROW = dataclasses.replace(
        effnet_tf.CompoundScaling().variant(-8), padding="symmetric", batch_norm_epsilon=1e-5
    )

    @pytest.mark.parametrize("side, pads", [(33, 0), (32, 5), (34, 1)])
    def test_any_side(self, side, pads):
        found = []
        for form in (True, False):
            model = effnet_tf.model_fn(self.ROW, 3, input_shape=(side, side, 3), flat=form)
            tiny_net.randomise_batch_norm(model)
            assert difference(model, pixels(2, side, side, 3)) < 1e-5
            found.append(kinds(folding.fold(model)))
            assert found[-1]["ZeroPadding2D"] == pads
            assert found[-1]["Multiply"] == len(effnet_tf.blocks(self.ROW))  # no pixels' division
        assert found[0] == found[1]


class TestPixelConstants:
    @staticmethod
    def model(*start, channels=3):
        return keras.Sequential(
            [keras.Input((8, 8, channels)), *start, L.Conv2D(4, 3, padding="same"), L.Flatten()]
        )

    @pytest.mark.parametrize(
        "start",
        [
            lambda: [L.Rescaling(1 / 255)],
            lambda: [L.Rescaling(1 / 127.5, offset=-1)],
            lambda: [L.Rescaling([0.1, 0.2, 0.3], offset=[1, 2, 3])],
            lambda: [L.Normalization(mean=[1, 2, 3], variance=[4, 5, 6])],
            lambda: [L.Normalization(axis=None, mean=100, variance=50)],
            lambda: [L.Normalization(axis=3, mean=100, variance=50)],
            # keras.applications' EfficientNet with weights="imagenet"
            lambda: [L.Rescaling(1 / 255), L.Normalization(), L.Rescaling([2.0, 2.1, 2.2])],
            lambda: [effnet_tf.layers.Normalize([1, 2, 3], [4, 5, 6]), L.Rescaling(3)],
            lambda: [L.Rescaling(1 / 255), L.GaussianNoise(0.5), L.ZeroPadding2D(1)],
        ],
    )
    def test_the_division_is_in_the_kernel(self, start):
        model = self.model(*start())
        flat_net.set_constants(model, [0.5, 0.4, 0.3], [0.1, 0.2, 0.3])
        images = pixels(2, 8, 8, 3)
        assert difference(model, images, scale=np.abs(model(images)).max()) < 1e-6
        found = kinds(folding.fold(model))
        assert not found["Multiply"]
        assert not {"Rescaling", "Normalization"} & set(found)

    @pytest.mark.parametrize(
        "start",
        [
            lambda: [L.Normalization(axis=(1, 2, 3))],
            lambda: [L.Normalization(axis=1)],
            lambda: [L.Normalization(invert=True)],
            lambda: [L.Rescaling(0)],
            lambda: [L.Rescaling(2), L.Rescaling(1 / 255), L.Activation("relu")],
        ],
    )
    def test_other_arithmetic_stays(self, start):
        model = self.model(*start())
        for layer in model.layers:
            if isinstance(layer, L.Normalization):
                layer.adapt(pixels(4, 8, 8, 3))
        images = pixels(2, 8, 8, 3)
        scale = max(np.abs(model(images)).max(), 1)
        assert difference(model, images, scale=scale) < 1e-5

    def test_other_convolutions(self):
        for conv in (
            L.Conv2D(4, 3, groups=2),
            L.DepthwiseConv2D(3, depth_multiplier=2),
            L.SeparableConv2D(4, 3),
            L.Conv2DTranspose(4, 3),
        ):
            model = keras.Sequential(
                [keras.Input((8, 8, 4)), L.Rescaling([1 / 255, 1, 2, 3], offset=-1), conv]
            )
            images = pixels(2, 8, 8, 4)
            assert difference(model, images, scale=np.abs(model(images)).max()) < 1e-6


class TestPadding:
    @pytest.mark.parametrize("side", [7, 8, 9, 10])
    @pytest.mark.parametrize(
        "kernel_size, strides, dilation", [(3, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 2), (2, 3, 1)]
    )
    def test_as_same_does_it(self, side, kernel_size, strides, dilation):
        options = {"strides": strides, "dilation_rate": dilation}
        same = L.Conv2D(2, kernel_size, padding="same", **options)
        reach = (kernel_size - 1) * dilation + 1
        zeros = max((-(-side // strides) - 1) * strides + reach - side, 0)
        pad = (zeros // 2, zeros - zeros // 2)
        inputs = keras.Input((side, side, 3))
        valid = L.Conv2D(2, kernel_size, **options)
        model = keras.Model(inputs, valid(L.ZeroPadding2D((pad, pad))(inputs)))
        images = pixels(2, side, side, 3)
        same.build(images.shape)
        same.set_weights(valid.get_weights())
        folded = folding.fold(model)
        assert set(kinds(folded)) == {"InputLayer", "Conv2D"}
        np.testing.assert_allclose(folded(images), same(images), atol=1e-3)

    @pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((1, 0), (1, 0)), ((0, 2), (0, 2))])
    def test_other_padding_stays(self, padding):
        """As PyTorch pads, symmetrically: at stride 2 it is not what SAME does."""
        inputs = keras.Input((8, 8, 3))
        x = L.Rescaling(1 / 255, offset=-1)(inputs)
        x = L.Conv2D(2, 3, strides=2)(L.ZeroPadding2D(padding)(x))
        model = keras.Model(inputs, L.BatchNormalization()(x))
        assert difference(model, pixels(2, 8, 8, 3)) < 1e-5
        found = kinds(folding.fold(model))
        assert found["ZeroPadding2D"] == 1 and not found["BatchNormalization"]

    def test_no_padding_vanishes(self):
        inputs = keras.Input((8, 8, 3))
        x = L.Conv2D(2, 3, strides=2, padding="same")(L.ZeroPadding2D(0)(inputs))
        assert "ZeroPadding2D" not in kinds(folding.fold(keras.Model(inputs, x)))

    def test_a_padded_map_that_others_read(self):
        inputs = keras.Input((8, 8, 3))
        padded = L.ZeroPadding2D(((0, 1), (0, 1)))(inputs)
        model = keras.Model(
            inputs,
            L.Add()([L.Conv2D(2, 3, strides=2)(padded), L.MaxPooling2D(3, 2)(padded)[..., :2]]),
        )
        assert difference(model, pixels(2, 8, 8, 3)) < 1e-3


class TestSqueeze:
    def test_a_mean_that_others_read(self):
        inputs = keras.Input((8, 8, 3))
        mean = L.GlobalAveragePooling2D()(inputs)
        gate = L.Conv2D(3, 1, activation="sigmoid")(L.Reshape((1, 1, 3))(mean))
        gated = L.GlobalMaxPooling2D()(L.Multiply()([inputs, gate]))
        model = keras.Model(inputs, L.Concatenate()([mean, gated]))
        assert difference(model, pixels(2, 8, 8, 3)) < 1e-4
        assert "Reshape" not in kinds(folding.fold(model))

    def test_other_shapes_stay(self):
        inputs = keras.Input((8, 8, 4))
        mean = L.GlobalAveragePooling2D()(inputs)
        for shape in ((4, 1), (2, 2), (1, 2, 2), (4,)):
            model = keras.Model(inputs, L.Reshape(shape)(mean))
            assert folding.fold(model).output_shape == (None, *shape)


class TestWhatIsCalledTwice:
    def test_a_network_has_its_weights_once(self):
        """Siamese; and the classifier's own layers once, too."""
        net = effnet_tf.model_fn(TINY, include_top=False, pooling="avg", input_shape=(32, 32, 3))
        tiny_net.randomise_batch_norm(net)
        left, right = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
        dense = L.Dense(2)
        model = keras.Model([left, right], L.Subtract()([dense(net(left)), dense(net(right))]))
        folded = folding.fold(model)
        assert folded.count_params() < net.count_params() + 2 * (net.output_shape[-1] + 1)
        images = pixels(2, 32, 32, 3), pixels(2, 32, 32, 3)[::-1]
        np.testing.assert_allclose(folded(images), model(images), atol=1e-5)

    def test_on_maps_of_other_sizes(self):
        conv, bn = L.Conv2D(3, 3, strides=2), L.BatchNormalization()
        inputs = keras.Input((8, 8, 3))
        x = bn(conv(L.ZeroPadding2D(((0, 1), (0, 1)))(inputs)))
        x = bn(conv(x))
        model = tiny_net.randomise_batch_norm(keras.Model(inputs, x))
        images = pixels(2, 8, 8, 3)
        assert difference(model, images, scale=np.abs(model(images)).max()) < 1e-6


def both_forms(variant, classes, path, **options):
    """A composite network, and the flat one of the same weights."""
    composite = tiny_net.randomise_batch_norm(effnet_tf.model_fn(variant, classes, **options))
    flat = effnet_tf.model_fn(variant, classes, flat=True, **options)
    composite.save_weights(path)
    effnet_tf.load_weights(flat, path)
    return composite, flat


def described(model):
    """What a folded model consists of, with names, in order, and how it computes."""
    return [
        (layer.name, type(layer).__name__, getattr(layer, "padding", None), layer.output.shape)
        for layer in model.layers
    ]


@pytest.mark.parametrize("base", ["b0", "lite0", "edgetpu-s"])
@pytest.mark.parametrize("shape", [(32, 36, 3), (33, 40, 3), (None, None, 3)])
def test_both_forms_are_folded_alike(base, shape, tmp_path):
    variant = tiny_net.scaled(-8, base=base)
    composite, flat = map(
        folding.fold, both_forms(variant, 3, str(tmp_path / "m.weights.h5"), input_shape=shape)
    )
    assert described(composite) == described(flat)
    for one, two in zip(composite.weights, flat.weights):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)
    images = pixels(2, *(side or 34 for side in shape))
    np.testing.assert_allclose(composite(images), flat(images), atol=1e-6)
