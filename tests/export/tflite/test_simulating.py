"""simulating.py: what the 8-bit numbers of a file mean, and weights that are not the network's."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from effnet_tf.errors import InputError
from effnet_tf.export import judging, staging
from effnet_tf.export.tflite import (
    converter,
    costing,
    flatbuffer,
    integers,
    leaves,
    measuring,
    offering,
    simulating,
    writing,
)
from effnet_tf.export.tflite.options import Options
from effnet_tf.export.tolerances import VerificationError
from tests.helpers import in_process
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

pytestmark = pytest.mark.usefixtures("in_this_process")
GAINS = costing.gains  # before the fixture above replaces it
IMAGES = leaves.images(8, (16, 16, 3)).round()


def network():
    """A network with a gate, a sum and a softmax."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3), name="images")
    x = layers.Conv2D(16, 3, strides=2, activation="relu6")(inputs - 120.0)
    y = layers.DepthwiseConv2D(5, padding="same")(x)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    x = x + y * layers.Conv2D(16, 1, activation="sigmoid")(gate)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Softmax()(layers.Dense(20)(x) / 8))


def made(folder, options):
    return writing.write(
        network(), str(folder), options, calibration=IMAGES.astype("float32"), takes_pixels=True
    )


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """The bytes of its float file."""
    return staging.read(made(tmp_path_factory.mktemp("floats"), Options("none")).file)


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


def test_the_costs_of_blocks_are_what_keeping_them_in_float_gains(floats):
    ranges = integers.calibrated(floats, [image[np.newaxis] for image in IMAGES])
    whole = integers.int8(ranges, "float")
    gains = GAINS(floats, whole, IMAGES, enough=100, shown=False)
    assert list(gains) == sorted(gains, key=gains.get, reverse=True)
    assert gains.keys() == integers.blocks(floats).keys()
    left = measuring.sqnr(logits(floats), logits(whole))
    costly = next(iter(gains))
    mixed = integers.int8(ranges, "float", integers.operators_of(floats, [costly]))
    gained = measuring.sqnr(logits(floats), logits(mixed)) - left
    assert gains[costly] > 0.5 and gained == pytest.approx(gains[costly], abs=1)
    assert GAINS(floats, whole, IMAGES, shown=False) == {}  # these 30 dB are enough


def test_weights_that_are_not_the_networks(floats):
    model = flatbuffer.read(flatbuffer.weights8(floats))
    tensor = next(each for each in model.subgraphs[0].tensors if each.type == 9)  # INT8
    tensor.quantization.scale = tensor.quantization.scale * 1.1
    with pytest.raises(VerificationError, match="8-bit weights of .* are not those of the network"):
        simulating.simulated(floats, flatbuffer.write(model))


def convert_wrongly(saved_model, out, quantize, convert=converter.convert):
    """As the converter, with the numbers of one kernel a place further."""
    convert(saved_model, out, quantize)
    model = flatbuffer.read(staging.read(out))
    graph = model.subgraphs[0]
    kernels = [each.inputs[1] for each in graph.operators if len(each.inputs) > 2]
    buffer = model.buffers[graph.tensors[kernels[0]].buffer]
    buffer.data = np.roll(buffer.data, 4)
    staging.write(out, flatbuffer.write(model))
    return converter.difference(saved_model, out)


def test_a_converter_that_changes_the_network(tmp_path, monkeypatch):
    """A simulation made of its float file would agree with it."""
    monkeypatch.setattr(converter, "convert", convert_wrongly)
    with pytest.raises(VerificationError, match="converter changed the network before anything"):
        made(tmp_path, Options("weights8", effort="quick"))


class TestOffers:
    @pytest.fixture(scope="class")
    def files(self, tmp_path_factory):
        with in_process.jobs_here():
            return made(tmp_path_factory.mktemp("int8"), Options("int8", equalize=False))

    def test_they_are_made_and_measured(self, files):
        exact = logits(staging.read(files.floats))
        whole = measuring.sqnr(exact, logits(staging.read(files.file)))
        options = Options("int8", keep_float=("depthwise",))
        offers = offering.priced(files.source, ["conv2d"], options, IMAGES, exact)
        assert [offer.options for offer in offers] == [
            "--quantize weights8",
            "--keep_float depthwise,conv2d",
            "--quantize int16x8",
        ]
        for offer in offers:
            assert offer.agreement >= 0.75 and offer.latency_ratio > 0
        weights8, mixed, int16x8 = offers
        assert weights8.sqnr_db > whole and int16x8.sqnr_db > whole + 6
        assert mixed.size_bytes > len(staging.read(files.file))
        assert "dB" in offers[0].cells()[2] and "MB" in offers[0].cells()[3]

    def test_what_cannot_be_made_says_why(self, files, monkeypatch):
        def refuse():
            raise RuntimeError("Quantization to 16x8-bit not yet supported for op: 'HARD_SWISH'.")

        stock = types.SimpleNamespace(target_spec=types.SimpleNamespace(), convert=refuse)
        monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", lambda path: stock)
        *_, last = offering.priced(files.source, [], Options("int8"), IMAGES, np.eye(8, 20))
        assert "op: 'HARD_SWISH'. Use" in last.cells()[0] and last.sqnr_db is None


def test_shares_of_images():
    with pytest.raises(InputError, match="min_agreement is 90; it must be a share"):
        Options("int8", min_agreement=90)
