"""simulating.py: what the 8-bit numbers of a file mean, and weights that are not the network's."""

import keras
import numpy as np
import pytest
from keras import layers

from effnet_tf.errors import InputError
from effnet_tf.export import judging
from effnet_tf.export.tflite import flatbuffer, integers, leaves, measuring, simulating, writing
from effnet_tf.export.tflite.options import Options
from effnet_tf.export.tolerances import VerificationError
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("in_this_process")
IMAGES = leaves.images(8, (16, 16, 3)).round()


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """The bytes of a float file with a gate, a sum and a softmax."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="images")
    x = layers.Conv2D(16, 3, strides=2, activation="relu6")(inputs - 120.0)
    y = layers.DepthwiseConv2D(5, padding="same")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    x = x + y * layers.Conv2D(16, 1, activation="sigmoid")(gate)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Softmax()(layers.Dense(20)(x) / 8))
    folder = str(tmp_path_factory.mktemp("floats"))
    made = writing.write(model, folder, Options("none"), calibration=None, takes_pixels=True)
    with open(made.file, "rb") as file:
        return file.read()


def logits(data):
    return measuring.logits_of(data, IMAGES)


def test_weights8_is_its_simulation(floats):
    file = flatbuffer.weights8(floats)
    simulation = simulating.simulated(floats, file)
    assert not {"QUANTIZE", "DEQUANTIZE"} & set(
        flatbuffer.operator_names(flatbuffer.read(simulation))
    )
    np.testing.assert_allclose(logits(simulation), logits(file), atol=1e-5)
    assert np.abs(logits(floats) - logits(file)).max() > 1e-3


@pytest.mark.parametrize("io", ["float", "uint8"])
def test_integers_are_close_to_their_simulation(floats, io):
    batches = [image[np.newaxis] for image in IMAGES]
    file = integers.int8(integers.calibrated(floats, batches), io)
    simulated = logits(simulating.simulated(floats, file))
    left = measuring.sqnr(logits(floats), simulated)
    assert measuring.sqnr(simulated, logits(file)) > left - judging.TIES_DB / 2


def test_weights_that_are_not_the_networks(floats):
    model = flatbuffer.read(flatbuffer.weights8(floats))
    tensor = next(each for each in model.subgraphs[0].tensors if each.type == 9)  # INT8
    tensor.quantization.scale = tensor.quantization.scale * 1.1
    with pytest.raises(VerificationError, match="8-bit weights of .* are not those of the network"):
        simulating.simulated(floats, flatbuffer.write(model))


def test_shares_of_images():
    with pytest.raises(InputError, match="min_agreement is 90; it must be a share"):
        Options("int8", min_agreement=90)
