"""MobileNets, ResNet-50 and EfficientNetV2 become every kind of file, and pass its gate."""

import dataclasses

import numpy as np
import pytest

import effnet_tf
from effnet_tf import variants
from effnet_tf.scaling.operators import operators_of_network
from tests.helpers import tiny_net

# Stages that show all that a network has: a stride, a skip, a squeeze, every activation.
STAGES = {
    "mobilenet_v1": (0, 1),
    "mobilenet_v2": (0, 1, 4),
    "mobilenet_v3_large": (0, 3, 7),
    "mobilenet_v3_small": (0, 3),
    "resnet50": (0, 1),
    "v2-b0": (0, 1, 3),
    "v2-s": (0, 1, 3),
}
# timm pads both sides alike; its ResNet-50 strides in the middle, without biases.
OF_TIMM = ("mobilenet_v3_large", "resnet50")
CASES = [*((name, None) for name in STAGES), *((name, "timm") for name in OF_TIMM)]


def small(name, family=None):
    """A baseline, as a family has it, of a few blocks and a quarter of the channels."""
    row = variants.in_family(name, family)
    stages = [dataclasses.replace(row.stages[number], repeats=1) for number in STAGES[name]]
    return dataclasses.replace(
        row,
        name=f"small-{name}",
        stages=tuple(stages),
        width_coefficient=0.25,
        resolution=32,
        num_classes=5,
    )


def model(name, family=None):
    return tiny_net.randomise_batch_norm(effnet_tf.model_fn(small(name, family)))


def images(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype("float32")


@pytest.mark.slow  # a minute each
@pytest.mark.parametrize("quantize", ["none", "weights8", "int8"])
@pytest.mark.parametrize("name, family", CASES)
def test_tflite(name, family, quantize, tmp_path):
    from effnet_tf.export.tflite import flatbuffer

    path = tmp_path / "net.tflite"
    calibration = images(40) if quantize == "int8" else None
    made = model(name, family)
    effnet_tf.export.to_tflite(
        made, str(path), quantize=quantize, calibration=calibration, verify_with=images(8)
    )
    found = flatbuffer.operator_names(flatbuffer.read(path.read_bytes()))
    if quantize == "none":
        network = variants.resolve(small(name, family))
        wanted = [operator.kind for operator in operators_of_network(network)]
        # The pixels' mean at one end, the softmax at the other; zeros that SAME is not.
        assert [kind for kind in found if kind != "PAD"] == ["SUB", *wanted, "SOFTMAX"]


@pytest.mark.slow
@pytest.mark.parametrize("name, family", CASES)
def test_saved_model_and_onnx(name, family, tmp_path, caplog):
    made = model(name, family)
    effnet_tf.export.to_saved_model(made, str(tmp_path / "saved"), verify_with=images(8))
    effnet_tf.export.to_onnx(made, str(tmp_path / "net.onnx"), verify_with=images(8))
    assert "Failed to apply" not in caplog.text  # of tf2onnx's optimisers
