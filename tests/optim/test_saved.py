"""Compiled models that users hold, written by commit 8d868d6: their optimisers go on as then."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import effnet_tf

HELD = pathlib.Path(__file__).parents[1] / "reference/held/optim"
# Of a Dense layer after its fourth step: kernel, bias, and the learning rate.
ANSWERS = {
    "rmsprop": (-0.10722486674785614, -0.936881422996521, 0.3536285161972046, 0.09700000286102295),
    "sgd": (-0.07818066328763962, 1.0455830097198486, 0.6589295864105225, 0.06545084714889526),
    "lars": (-0.005900818854570389, -1.368661880493164, 0.784877598285675, 0.06444444507360458),
    "adamw": (
        -0.044092487543821335,
        -1.3237780332565308,
        0.03994711488485336,
        0.009999999776482582,
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_optimiser_goes_on_where_it_was(name):
    model = effnet_tf.load_model(HELD / f"{name}.keras")
    model.train_on_batch(np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[1.0], [0.0]]))
    kernel, bias = (weight.numpy().ravel() for weight in model.weights)
    found = [*kernel, *bias, float(model.optimizer.learning_rate)]
    np.testing.assert_allclose(found, ANSWERS[name], rtol=1e-6)


@pytest.mark.parametrize(
    "load",
    ["import effnet_tf; load = effnet_tf.load_model", "import effnet_tf.optim; load = keras_load"],
)
def test_a_program_that_only_loads_finds_the_optimisers(load):
    """Keras knows only what was imported."""
    code = (
        "import keras; keras_load = keras.saving.load_model; "
        f"{load}; [load(f'{HELD}/{{name}}.keras') for name in {list(ANSWERS)}]"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]


def test_every_saved_name_is_registered():
    optimizers = ("RMSprop", "SGD", "AdamW", "LARS")
    schedules = ("WarmupStaircase", "WarmupCosine", "WarmupPolynomial")
    for name in optimizers + schedules:
        assert keras.saving.get_registered_object(f"effnet_tf>{name}") is not None


def test_without_tensorflow_the_package_is_a_sentence():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import effnet_tf\n"
        "try: effnet_tf.optim\n"
        "except effnet_tf.MissingTensorFlow as error: print(error)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "effnet_tf.optim needs TensorFlow" in finished.stdout, finished.stderr[-2000:]
