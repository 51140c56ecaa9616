"""layers/pixel_range.py: which first images are noticed, and where; see test_normalize.py."""

import pickle
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers

RANDOM = np.random.default_rng(0)
SCALED = RANDOM.uniform(0, 1, (4, 8, 8, 3)).astype("float32")
PIXELS = [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]]


def blocks():
    inputs = keras.Input((8, 8, 3))
    x = layers.Normalize(*PIXELS)(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def flat():
    inputs = keras.Input((8, 8, 3))
    rescaling = keras.layers.Rescaling(1 / 255, dtype="float32")
    x = keras.layers.Normalization(dtype="float32")(rescaling(inputs))
    layers.watch_range(rescaling)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


both_forms = pytest.mark.parametrize("build", [blocks, flat])
both_ways = pytest.mark.parametrize(
    "use", [lambda model, x: model(x), lambda model, x: model.predict(x, verbose=0)]
)


@both_forms
@both_ways
@pytest.mark.parametrize(
    "images, words",
    [
        (SCALED, r"between .* scaled to \[0, 1\]"),
        (RANDOM.integers(0, 65536, (4, 8, 8, 3)).astype("float32"), "more than 8 bits.*by 257"),
        (RANDOM.integers(0, 65536, (4, 8, 8, 3)).astype("uint16"), "more than 8 bits"),
        (SCALED * 4095, "more than 8 bits"),
        (-1000 * SCALED, "more than 8 bits"),
        (np.round(SCALED), r"scaled to \[0, 1\]"),  # black and white
    ],
)
def test_is_noticed_once(build, use, images, words):
    model = build()
    with pytest.warns(UserWarning, match=words):
        use(model, images)
    use(model, images)


@both_forms
@both_ways
@pytest.mark.parametrize(
    "images",
    [
        RANDOM.integers(0, 6, (4, 8, 8, 3)).astype("uint8"),  # dark
        RANDOM.integers(0, 3, (4, 8, 8, 3)).astype("int64"),
        RANDOM.integers(0, 256, (4, 8, 8, 3)).astype("float32"),
        SCALED * 300 - 20,  # resizing by a bicubic overshoots
        np.full((4, 8, 8, 3), 0.5, "float32"),
    ],
)
def test_is_passed(build, use, images):
    use(build(), images)


def test_integers_that_a_layer_sees_as_such_are_pixels():
    layers.Normalize(*PIXELS)(RANDOM.integers(0, 2, (4, 8, 8, 3)).astype("uint8"))


def test_of_constants_for_another_range_nothing_is_said():
    for mean, std in (([0.5] * 3, [0.25] * 3), ([3e4] * 3, [1e4] * 3)):
        layers.Normalize(mean, std)(SCALED)
        layers.Normalize(mean, std)(SCALED * 65535)


class Subclassed(keras.Model):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, inputs):
        return self.network(inputs)


class Wrapper(keras.layers.Layer):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, inputs):
        return self.network(inputs)


def wrapped(network):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, Wrapper(network)(inputs))


def in_time(network):
    inputs = keras.Input((2, 8, 8, 3))
    return keras.Model(inputs, keras.layers.TimeDistributed(network)(inputs))


@both_forms
@both_ways
@pytest.mark.parametrize("wrap", [Subclassed, wrapped, in_time])
def test_is_noticed_wherever_the_network_is(build, use, wrap):
    model, images = wrap(build()), SCALED
    if wrap is in_time:
        images = np.stack([SCALED, SCALED], 1)
    with pytest.warns(UserWarning, match=r"scaled to \[0, 1\]"):
        use(model, images)
    use(model, images)


@both_forms
def test_any_number_of_images_in_time_runs(build):
    """Keras vectorises them then, and nothing may call back to Python."""
    inputs = keras.Input((None, 8, 8, 3))
    model = keras.Model(inputs, keras.layers.TimeDistributed(build())(inputs))
    images = np.stack([SCALED, SCALED], 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*scaled to")
        found = model.predict(images, verbose=0)
        np.testing.assert_allclose(found, model(images), rtol=1e-5, atol=1e-6)


def test_nothing_of_it_is_in_a_file_or_an_export(tmp_path):
    model = flat()
    model.save(tmp_path / "a.keras")
    for copy in (
        keras.saving.load_model(tmp_path / "a.keras"),
        pickle.loads(pickle.dumps(model)),
        keras.models.clone_model(model),
    ):
        assert type(copy.layers[1]) is keras.layers.Rescaling
        copy(SCALED)  # no warning, which would be an error
    model.export(tmp_path / "saved", verbose=False)
    graph = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"].graph
    assert not [op for op in graph.get_operations() if "PyFunc" in op.type]
