"""export/tflite/integers.py: float TFLite files become integers, by ranges that we measure."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export.tflite import flatbuffer, integers, interpreter, measuring
from tests.export.tflite import test_flatbuffer

data = test_flatbuffer.data
model = test_flatbuffer.model


@pytest.fixture(scope="module")
def images():
    """Photos have soft shapes; noise alone would have no ranges to speak of."""
    random = np.random.default_rng(0)
    small = random.uniform(0, 255, (24, 3, 3, 3))
    return np.clip(tf.image.resize(small, test_flatbuffer.SHAPE[:2], "bicubic"), 0, 255).round()


@pytest.fixture(scope="module")
def ranges(data, images):
    return integers.calibrated(data, [images[start : start + 1] for start in range(16)])


def test_ranges_are_those_of_the_activations(data, ranges, images):
    model = flatbuffer.read(ranges)
    tensors = model.subgraphs[0].tensors
    results = [int(op.outputs[0]) for op in model.subgraphs[0].operators]
    values = interpreter.Classifier(data, results)(images[:16])[1:]
    for number, value in zip(results, values):
        np.testing.assert_allclose(tensors[number].quantization.min, value.min(), rtol=1e-5)
        np.testing.assert_allclose(tensors[number].quantization.max, value.max(), rtol=1e-5)


def test_pixels_keep_their_whole_range(ranges):
    details = interpreter.open_file(integers.int8(ranges, "uint8")).get_input_details()
    assert details[0]["dtype"] == np.uint8 and details[0]["quantization"] == (1.0, 0)


@pytest.mark.parametrize(
    "io, kind", [("float", np.float32), ("int8", np.int8), ("uint8", np.uint8)]
)
def test_input_and_output_are_of_the_type_asked_for(ranges, data, images, io, kind):
    file = integers.int8(ranges, io)
    interpreter_ = interpreter.open_file(file)
    assert interpreter_.get_input_details()[0]["dtype"] == kind
    assert interpreter_.get_output_details()[0]["dtype"] == kind
    np.testing.assert_allclose(
        interpreter.Classifier(file)(images)[0], interpreter.Classifier(data)(images)[0], atol=0.02
    )


def test_as_good_as_tensorflows_own_converter(model, data, ranges, images):
    stock = test_flatbuffer.converted(
        model,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([images[n : n + 1].astype("float32")] for n in range(16)),
    )
    exact = measuring.logits_of(data, images)
    ours, theirs = (
        measuring.sqnr(exact, measuring.logits_of(file, images))
        for file in (integers.int8(ranges, "float"), stock)
    )
    assert ours > theirs - 1 and ours > 20


class TestKeepFloat:
    def test_named_operators_stay_float(self, data, ranges):
        name = flatbuffer.result_names(flatbuffer.read(data))[1]
        model = flatbuffer.read(integers.int8(ranges, "float", [name]))
        kinds = {
            flatbuffer.name(t.name): flatbuffer.type_name(t) for t in model.subgraphs[0].tensors
        }
        assert kinds[name] == "float32" and "int8" in kinds.values()

    def test_blocks_hold_every_operator_once(self, data):
        blocks = integers.blocks(data)
        assert list(blocks) == ["full", "depthwise", "shared", "global", "dense"]
        assert sum(blocks.values(), []) == flatbuffer.result_names(flatbuffer.read(data))

    @pytest.mark.parametrize("extra", [-100, 4])
    def test_the_target_is_reached(self, data, ranges, images, extra):
        exact = measuring.logits_of(data, images)

        def sqnr(file):
            return measuring.sqnr(exact, measuring.logits_of(file, images))

        start = sqnr(integers.int8(ranges, "float"))
        lines = []
        file, names = integers.keep_float(ranges, "float", sqnr, start + extra, lines.append)
        everything = flatbuffer.result_names(flatbuffer.read(data))
        assert sqnr(file) >= start + extra
        assert (not names) if extra < 0 else (0 < len(names) < len(everything))
        assert len(lines) >= len(integers.blocks(data))

    def test_blocks_by_name(self, data):
        assert integers.operators_of(data, ["dense", "full"]) == [
            *integers.blocks(data)["dense"],
            *integers.blocks(data)["full"],
        ]
        with pytest.raises(InputError, match="no block 'x'.*full, depthwise, shared"):
            integers.operators_of(data, ["x"])

    def test_a_target_that_only_floats_reach(self, ranges):
        with pytest.raises(InputError, match="All blocks would have to stay in float"):
            integers.keep_float(ranges, "float", lambda file: 5.0, 6, print)

    def test_the_price_is_told(self, ranges):
        whole = integers.int8(ranges, "float")
        text = integers.price(whole, integers.int8(ranges, "float", ["none such"]))
        assert text.count(f"{len(whole) / 1e6:.2f} MB") == 2 and text.count("of 11 operators") == 2
