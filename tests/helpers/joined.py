"""Models that people make of our networks and something else: two inputs, videos, own layers."""

import functools

import keras
import numpy as np

import effnet_tf
from tests.helpers import tiny_net

L = keras.layers
SIDE = 32
SHAPE = (SIDE, SIDE, 3)


def network(flat, seed=0, **options):
    """The features of a small network of one form or the other."""
    keras.utils.set_random_seed(seed)
    variant = tiny_net.scaled(-8)
    options = {"include_top": False, "pooling": "avg", "input_shape": SHAPE, **options}
    return tiny_net.randomise_batch_norm(effnet_tf.model_fn(variant, flat=flat, **options), seed)


class Holder(L.Layer):
    """A layer of the user's that has a network inside, which its configuration does not say."""

    def __init__(self, net, **options):
        super().__init__(**options)
        self.net = net

    def call(self, images):
        return self.net(images)


class Block(keras.Model):
    """A subclassed model with a network inside, deep in what it holds."""

    def __init__(self, net, **options):
        super().__init__(**options)
        self.held = {"nets": [Holder(net)]}

    def call(self, images):
        return self.held["nets"][0](images)


def two_networks(flat):
    """One of them renamed, as every answer to "used 2 times" says."""
    left, right = network(flat), network(flat, 1)
    for layer in right.layers:
        layer.name = "right_" + layer.name
    both = L.Concatenate()([left.output, right.output])
    return keras.Model([left.input, right.input], L.Dense(3, "softmax")(both))


def image_and_table(flat):
    image, table = network(flat), keras.Input((7,), name="table")
    scale = L.Normalization()
    scale.adapt(np.random.default_rng(0).normal(50, 9, (9, 7)))
    both = L.Concatenate()([image.output, L.Dense(8, "relu")(scale(table))])
    return keras.Model([image.input, table], L.Dense(3, "softmax")(both))


def by_name(flat):
    """As the one before, whose inputs are a dict; the table is of integers."""
    image = network(flat, input_tensor=keras.Input(SHAPE, name="photo"))
    numbers = keras.Input((4,), dtype="int32", name="words")
    words = L.GlobalAveragePooling1D()(L.Embedding(9, 5)(numbers))
    scores = L.Dense(1, "sigmoid")(L.Concatenate()([image.output, words]))
    return keras.Model({"photo": image.input, "words": numbers}, scores)


def siamese(flat):
    net, left, right = network(flat), keras.Input(SHAPE), keras.Input(SHAPE)
    apart = L.Subtract()([net(left), net(right)])
    return keras.Model([left, right], L.Dense(1, "sigmoid")(apart))


def beside_another(flat):
    """One photo for two networks, each with its own constants."""
    net = network(flat)
    mobile = keras.applications.MobileNet(
        SHAPE, alpha=0.25, include_top=False, pooling="avg", weights=None
    )
    scaled = keras.applications.mobilenet.preprocess_input(net.input)
    both = L.Concatenate()([net.output, mobile(scaled)])
    return keras.Model(net.input, L.Dense(3, "softmax")(both))


def video(flat, frames=3):
    frames = keras.Input((frames, *SHAPE))
    x = L.TimeDistributed(network(flat))(frames)
    return keras.Model(frames, L.Dense(3, "softmax")(L.GlobalAveragePooling1D()(x)))


def inside(wrapper, flat):
    images = keras.Input(SHAPE)
    return keras.Model(images, L.Dense(3, "softmax")(wrapper(network(flat))(images)))


MODELS = {
    "two networks": two_networks,
    "image and table": image_and_table,
    "by name": by_name,
    "siamese": siamese,
    "beside another": beside_another,
    "video": video,
    "inside of a layer": functools.partial(inside, Holder),
    "inside of a model": functools.partial(inside, Block),
}
