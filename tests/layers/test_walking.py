"""layers/walking.py: layers are found wherever they are."""

import keras
import pytest

from effnet_tf import layers

pytestmark = pytest.mark.processor


def test_batch_norms_of_blocks_and_nested_models_are_found():
    inputs = keras.Input((8, 8, 4))
    block = layers.MBConv(4, 8)
    inner = keras.Model(inputs, block(layers.batch_norm("outside")(inputs)))
    outer = keras.Model(inputs, inner(inputs))
    names = ["outside", "expand_bn", "bn", "project_bn"]
    assert sorted(layer.name for layer in layers.batch_norms(outer)) == sorted(names)
    assert [layer.name for layer in layers.flatten(outer)][-2:] == ["outside", block.name]


class Mine(keras.layers.Layer):
    """A layer of the user's that holds others, one of them in a list."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = [inner]

    def call(self, inputs):
        return self.inner[0](inputs)


class Own(keras.Model):
    """A subclassed model that holds another."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


@pytest.mark.parametrize(
    "wrap", [keras.layers.TimeDistributed, Mine, Own, lambda net: Own(Mine(net))]
)
def test_flatten_reaches_what_is_wrapped(wrap):
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(4, 1, name="conv")(inputs)
    network = keras.Model(inputs, layers.MBConv(4, 8, name="block")(x))
    wrapped = wrap(network)
    model = keras.Sequential([wrapped, keras.layers.Flatten(name="flatten")])
    names = [layer.name for layer in layers.flatten(model)]
    assert names[-3:] == ["conv", "block", "flatten"]
    assert network in list(layers.holders(model)) and wrapped in list(layers.holders(model))


def test_a_layer_that_is_shared_comes_once():
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, name="dense")
    inner = keras.Model(inputs, dense(inputs))
    outer = keras.Model(inputs, dense(inner(inputs)))
    assert [layer.name for layer in layers.flatten(outer)].count("dense") == 1
