"""export/preprocessing.py and pixels.py: which pixels a model takes, wherever its constants are."""

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import export
from effnet_tf.export import folding, pixels
from tests.helpers import flat_net, joined, tiny_net

L = keras.layers
SHAPE = (32, 32, 3)
MEAN, STD = tuple(flat_net.MEAN), tuple(flat_net.STD)
UNSAID = False, (), ()
IMAGENET = True, MEAN, STD


def said(model):
    about = export.describe(model)
    return about.normalizes, about.mean, about.std


def network(*start, shape=SHAPE):
    return keras.Sequential([keras.Input(shape), *start, L.Conv2D(2, 3)])


def composite(**options):
    return effnet_tf.model_fn(
        tiny_net.scaled(-8), include_top=False, pooling="avg", input_shape=SHAPE, **options
    )


NETS = {"composite": composite, "flat": flat_net.tiny}


@pytest.mark.parametrize("net", NETS)
class TestNetworks:
    def test_alone_and_in_others(self, net):
        made = NETS[net]()
        assert said(made) == IMAGENET
        assert said(keras.Sequential([keras.Input(SHAPE), L.RandomFlip(), made])) == IMAGENET
        for layer in made.layers:
            layer.name = "right_" + layer.name
        assert said(keras.Model(made.inputs, made.outputs)) == IMAGENET

    @pytest.mark.parametrize("wrapper", [joined.Holder, joined.Block])
    def test_inside_of_a_layer(self, net, wrapper):
        inputs = keras.Input(SHAPE)
        assert said(keras.Model(inputs, L.Dense(2)(wrapper(NETS[net]())(inputs)))) == IMAGENET

    def test_of_a_video(self, net):
        inputs = keras.Input((2, *SHAPE))
        assert said(keras.Model(inputs, L.TimeDistributed(NETS[net]())(inputs))) == IMAGENET

    def test_beside_a_table(self, net):
        """Whose own normalisation is none of pixels."""
        table = keras.Input((7,))
        scale = L.Normalization()
        scale.adapt(np.random.default_rng(0).normal(50, 9, (9, 7)))
        for made, expected in ((NETS[net](), IMAGENET), (composite(preprocessing=False), UNSAID)):
            both = L.Concatenate()([scale(table), made.output])
            assert said(keras.Model([table, made.input], both)) == expected

    def test_siamese(self, net):
        made, left, right = NETS[net](), keras.Input(SHAPE), keras.Input(SHAPE)
        assert said(keras.Model([left, right], made(left) - made(right))) == IMAGENET

    def test_beside_another_network(self, net):
        made = NETS[net]()
        mobile = keras.applications.MobileNetV2(
            SHAPE, alpha=0.35, include_top=False, pooling="avg", weights=None
        )
        scaled = keras.applications.mobilenet_v2.preprocess_input(made.input)
        assert said(keras.Model(made.input, [made.output, mobile(scaled)])) == IMAGENET
        two = [made.output, mobile.output]
        assert said(keras.Model([made.input, mobile.input], two)) == UNSAID
        other = keras.Input(SHAPE)
        scaled = L.Rescaling(1 / 127.5, offset=-1)(other)
        model = keras.Model([made.input, other], [made.output, mobile(scaled)])
        assert said(model) == (True, (), ())


@pytest.mark.parametrize(
    "start, expected",
    [
        (lambda: [], UNSAID),
        (lambda: [L.Rescaling(1 / 255)], (True, (0, 0, 0), (255, 255, 255))),
        (lambda: [L.Rescaling(1 / 127.5, -1)], (True, (127.5,) * 3, (127.5,) * 3)),
        (lambda: [L.Normalization(mean=MEAN, variance=np.square(STD))], IMAGENET),
        (lambda: [L.Resizing(16, 16), L.Rescaling(1 / 255)], (True, (0,) * 3, (255,) * 3)),
        (lambda: [L.Normalization(axis=(1, 2, 3))], (True, (), ())),
        # as the networks of 2015 do it: blue, green and red less their means
        (lambda: [L.Rescaling(1, offset=(-104, -117, -124))], (True, (104, 117, 124), (1, 1, 1))),
        # images in [0, 1]
        (lambda: [L.Rescaling(255)], UNSAID),
        (lambda: [L.Rescaling(255), composite()], UNSAID),
        (lambda: [L.Normalization(mean=(0.5,) * 3, variance=(0.04,) * 3)], UNSAID),
    ],
)
def test_constants(start, expected):
    start = start()
    if start and isinstance(start[-1], keras.Model):
        model = keras.Sequential([keras.Input(SHAPE), *start])
    else:
        model = network(*start)
    assert said(model) == expected


def test_arithmetic():
    inputs = keras.Input(SHAPE)
    for scaled, expected in (
        ((inputs - 127.0) / 128.0, (True, (127.0,) * 3, (128.0,) * 3)),
        (keras.ops.cast(inputs, "float32") / 255, (True, (0.0,) * 3, (255.0,) * 3)),
        ((inputs - np.array(MEAN)) / np.array(STD), IMAGENET),
        (0.1 * inputs + 1, (True, (-10.0,) * 3, (10.0,) * 3)),
        (1 - inputs, UNSAID),
        (inputs / keras.ops.max(inputs), UNSAID),
    ):
        assert said(keras.Model(inputs, L.Conv2D(1, 3)(scaled))) == expected


def test_a_frozen_constant_of_keras(capsys):
    """`set_weights` leaves the copies that Keras' Normalization computes with behind."""
    right, model = flat_net.tiny(), flat_net.tiny(seed=1)
    flat_net.set_constants(model, [0.0] * 3, [1.0] * 3)
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("float32")
    model.predict(images, verbose=0)
    model.set_weights(right.get_weights())
    assert said(model) == IMAGENET
    np.testing.assert_allclose(folding.fold(model)(images), right(images), atol=1e-5)
    pixels.make_current(model)
    assert "'normalization" in capsys.readouterr().out
    np.testing.assert_allclose(model.predict(images, verbose=0), right(images), atol=1e-5)
    pixels.make_current(model)
    assert capsys.readouterr().out == ""
