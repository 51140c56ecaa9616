"""layers/classifiers.py: what is new is told from what was trained, by its values."""

import keras
import numpy as np
import pytest

from effnet_tf import layers
from effnet_tf.layers.classifiers import is_new, start_at_zero

FEATURES = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")


def classifier(**options):
    options = {"kernel_initializer": layers.dense_initializer(), **options}
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, **options)])
    return model, model.layers[0]


@pytest.mark.parametrize(
    "options", [{}, {"use_bias": False}, {"kernel_initializer": "zeros"}, {"dtype": "bfloat16"}]
)
def test_a_new_one(options):
    assert is_new(classifier(**options)[1])


def test_a_trained_one_is_not_new():
    model, layer = classifier()
    model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=False)
    model.fit(FEATURES, np.zeros((8, 3)), verbose=0)
    assert not is_new(layer)


def test_one_that_came_from_elsewhere_is_not_new(tmp_path):
    model, layer = classifier()
    other, taker = classifier()
    taker.set_weights(layer.get_weights())
    assert not is_new(taker)
    model.save(tmp_path / "a.keras")
    assert not is_new(keras.models.load_model(tmp_path / "a.keras").layers[0])


def test_what_is_no_dense_layer_is_not_new():
    assert not is_new(keras.layers.Flatten())
    assert not is_new(keras.layers.Dense(3))  # not built yet


def test_zero_is_the_same_for_every_class_and_still_new():
    model, layer = classifier(activation="softmax")
    start_at_zero(layer)
    np.testing.assert_allclose(model.predict(FEATURES, verbose=0), 1 / 3, rtol=1e-6)
    assert is_new(layer)
