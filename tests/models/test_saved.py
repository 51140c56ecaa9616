"""saved.py: what a program that only imports this package can load."""

import pickle
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import effnet_tf
from tests.helpers import tiny_net

TINY = tiny_net.scaled(-8)
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a model of our layers in every form that Keras saves, and what it answers."""
    folder = tmp_path_factory.mktemp("saved")
    inputs = keras.Input((32, 32, 3))
    x = effnet_tf.Normalize([127.5] * 3, [127.5] * 3)(inputs)
    x = effnet_tf.MBConv(8, 6, se_filters=2, strides=2)(x)  # fewer than a network's, and quick
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(effnet_tf.Dropout(0.5)(x)))
    model.compile(effnet_tf.RMSprop(0.1), "sparse_categorical_crossentropy")
    model.save(folder / "m.keras")
    (folder / "m.pickle").write_bytes(pickle.dumps(model))
    (folder / "m.json").write_text(model.to_json())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5")
        model.save(folder / "m.h5")  # the last: after it Keras saves no optimiser elsewhere
    np.savez(folder / "m.npz", images=IMAGES, answer=model(IMAGES))
    return folder


LOADS = """
import pickle, numpy as np
images, answer = (np.load("m.npz")[name] for name in ("images", "answer"))
for model in (
    load_model("m.keras"),
    load_model("m.h5"),
    pickle.load(open("m.pickle", "rb")),
):
    np.testing.assert_allclose(model(images), answer, rtol=1e-4, atol=1e-6)
    assert type(model.optimizer).__module__.startswith("effnet_tf")
assert len(from_json(open("m.json").read()).layers) == len(model.layers)
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import effnet_tf, keras; load_model = keras.saving.load_model; "
        "from_json = keras.models.model_from_json",
        "import keras, effnet_tf; load_model = keras.saving.load_model; "
        "from_json = keras.models.model_from_json",
        "import effnet_tf, tensorflow as tf; load_model = tf.keras.models.load_model; "
        "from_json = tf.keras.models.model_from_json",
    ],
)
def test_after_the_import_alone_keras_loads_everything(saved, imports):
    finished = subprocess.run(
        [sys.executable, "-c", imports + LOADS], cwd=saved, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-2000:]


def test_the_import_loads_nothing_heavy():
    code = "import sys, effnet_tf; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class Doubled(keras.layers.Layer):
    """A layer of a user's that is not registered."""

    def call(self, inputs):
        return 2 * inputs


def test_objects_of_ones_own(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Doubled()(inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(TypeError, match="Could not locate class 'Doubled'"):
        effnet_tf.load_model(tmp_path / "m.keras")
    loaded = effnet_tf.load_model(tmp_path / "m.keras", custom_objects={"Doubled": Doubled})
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), np.full((1, 4), 2.0))


def test_code_in_a_file_runs_only_if_it_is_asked_for(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: 2 * x)(inputs))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="safe_mode=False"):
        effnet_tf.load_model(tmp_path / "m.keras")
    loaded = effnet_tf.load_model(tmp_path / "m.keras", safe_mode=False)
    np.testing.assert_array_equal(loaded(np.ones((1, 4))), np.full((1, 4), 2.0))


def test_a_flat_network_that_is_loaded_follows_its_constants(tmp_path):
    model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3), flat=True)
    tiny_net.randomise_batch_norm(model)
    model.save(tmp_path / "m.keras")
    loaded = effnet_tf.load_model(tmp_path / "m.keras")
    loaded.predict(IMAGES, verbose=0)
    weights = effnet_tf.model_fn(
        TINY, 4, input_shape=(32, 32, 3), flat=True, preprocessing="inception"
    ).get_weights()
    for each in (model, loaded):
        each.set_weights(weights)
    np.testing.assert_allclose(
        loaded.predict(IMAGES, verbose=0), model(IMAGES), rtol=1e-4, atol=1e-6
    )
