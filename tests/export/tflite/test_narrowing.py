"""narrowing.py: activations get ranges in which rare values are cut off, where that helps."""

import numpy as np
import pytest

from effnet_tf.export.tflite import flatbuffer, integers, measuring, narrowing
from tests.export.tflite import test_flatbuffer

data = test_flatbuffer.data
model = test_flatbuffer.model
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.uniform(0, 255, (12, 1, 1, 3)) + RANDOM.normal(0, 20, (12, *test_flatbuffer.SHAPE))


@pytest.fixture(scope="module")
def ranges(data):
    """The calibrated file, with a range twice as wide as need be for each activation."""
    calibrated = flatbuffer.read(integers.calibrated(data, [each[np.newaxis] for each in IMAGES]))
    for number in narrowing._numbers(calibrated):
        quantization = calibrated.subgraphs[0].tensors[number].quantization
        quantization.min, quantization.max = 2 * quantization.min, 2 * quantization.max
    return flatbuffer.write(calibrated)


def wide(file):
    """How wide the range of each activation is."""
    model = flatbuffer.read(file)
    ranges = [model.subgraphs[0].tensors[each].quantization for each in narrowing._numbers(model)]
    return np.array([each.max[0] - each.min[0] for each in ranges])


def test_ranges_that_are_too_wide_are_narrowed(data, ranges):
    calls = []
    found = narrowing.narrowed(ranges, IMAGES, lambda *done: calls.append(done))
    numbers = narrowing._numbers(flatbuffer.read(ranges))
    assert calls == [(done, len(numbers)) for done in range(1, len(numbers) + 1)]
    width = wide(found) / wide(ranges)
    assert width.min() > 0.39 and width.max() < 1.01 and width.mean() < 0.8
    exact = measuring.logits_of(data, IMAGES)
    before, after = (
        measuring.sqnr(exact, measuring.logits_of(integers.int8(file, "float"), IMAGES))
        for file in (ranges, found)
    )
    assert after > before + 1.5


def test_the_range_of_the_pixels_and_of_what_has_its_own_stays(ranges):
    numbers = narrowing._numbers(flatbuffer.read(ranges))
    graph = flatbuffer.read(ranges).subgraphs[0]
    kinds = flatbuffer.operator_names(flatbuffer.read(ranges))
    chosen = {kind for kind, each in zip(kinds, graph.operators) if int(each.outputs[0]) in numbers}
    assert int(graph.inputs[0]) not in numbers and chosen <= set(narrowing.KINDS)
    assert "CONV_2D" in chosen


def test_a_tensor_alone_is_rounded_to_256_steps(data, ranges):
    model = flatbuffer.read(ranges)
    number = narrowing._numbers(model)[-1]
    exact, found = (
        measuring.logits_of(file, IMAGES)
        for file in (data, narrowing._rounded_alone(ranges, number, 0.5))
    )
    measured = model.subgraphs[0].tensors[number].quantization
    step = (max(measured.max[0], 0) - min(measured.min[0], 0)) / 2 / 255
    assert 0 < np.abs(found - exact).max() <= 0.51 * step
    np.testing.assert_allclose(found / step, np.round(found / step), atol=1e-2)


@pytest.mark.parametrize(
    "errors, width",
    [
        ({}, 1.0),  # every narrower range is worse
        ({0.9: 3, 0.8: 2, 0.7: 1.1}, 0.7),
        ({0.9: 4.1, 0.8: 3}, 0.8),  # past a bump
        ({0.9: 5, 0.8: 3}, 1.0),  # a wall
    ],
)
def test_the_width_of_the_least_error(errors, width):
    assert narrowing._best_width(lambda tried: {1.0: 4, **errors}.get(tried, 9)) == width


def test_images_are_chosen_evenly():
    assert narrowing.chosen(np.arange(5)).tolist() == [0, 1, 2, 3, 4]
    found = narrowing.chosen(np.arange(500))
    assert len(found) == narrowing.MOST_IMAGES and found[0] == 0 and found[-1] == 499


@pytest.mark.filterwarnings("error")
def test_an_activation_that_is_always_zero_keeps_its_range(ranges):
    model = flatbuffer.read(ranges)
    number = narrowing._numbers(model)[0]
    quantization = model.subgraphs[0].tensors[number].quantization
    quantization.min, quantization.max = 0 * quantization.min, 0 * quantization.max
    found = narrowing.narrowed(flatbuffer.write(model), IMAGES)
    assert wide(found)[0] == 0 and wide(found)[1:].min() > 0
