"""variants/counting.py: counts equal to the original code's graphs, without TensorFlow."""

import dataclasses
import doctest
import importlib
import subprocess
import sys

import pytest

import effnet_tf
from tests.helpers import goldens
from tests.variants.test_network import fact

cost_module = importlib.import_module("effnet_tf.variants.counting")


@pytest.mark.parametrize("name", goldens.efficientnets())
def test_counts_equal_the_original(name):
    cost, expected = effnet_tf.cost(name), fact(name)
    assert cost.params == expected["total"]
    assert cost.trainable_params == expected["trainable"]
    assert cost.multiply_adds == expected["macs"]


def test_counts_at_other_sizes_equal_the_original():
    # FACTS.md 2.2, from the original code: table 7 of the paper.
    assert effnet_tf.cost("b0", resolution=448).multiply_adds == 1_537_537_408
    b3_at_291 = effnet_tf.cost("b3", resolution=291)
    assert (b3_at_291.multiply_adds, b3_at_291.trainable_params) == (1_800_091_280, 12_233_232)
    # timm's EdgeTPU networks have 1000 classes (FACTS.md 2.1).
    assert effnet_tf.cost("edgetpu-s", num_classes=1000).trainable_params == 5_438_392


@pytest.mark.parametrize("name", ["b0", "lite0", "edgetpu-s"])
def test_activation_bytes_are_the_outputs_of_the_built_network(name):
    import tensorflow as tf

    model = effnet_tf.model_fn(name, input_shape=(65, 65, 3))
    graph = (
        tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec((1, 65, 65, 3))).graph
    )
    sizes = [
        operation.outputs[0].shape.num_elements()
        for operation in graph.get_operations()
        if operation.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul")
    ]
    assert effnet_tf.cost(name, resolution=65).activation_bytes == 4 * sum(sizes)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(variant="b0", resolution=31), "at least 32"),
        (dict(variant="b0", num_classes=0), "num_classes"),
        (dict(variant="nope"), "no variant"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(effnet_tf.InputError, match=message):
        effnet_tf.cost(arguments.pop("variant"), **arguments)


def test_a_network_of_few_strides_takes_small_images():
    stages = effnet_tf.VARIANTS["b0"].stages[:1]
    small = effnet_tf.Variant("small", 1.0, 1.0, 4, 0.0, stages=stages)
    assert effnet_tf.cost(small).multiply_adds < effnet_tf.cost(small, resolution=8).multiply_adds
    assert effnet_tf.model_fn(small, 5).output_shape == (None, 5)
    with pytest.raises(effnet_tf.InputError, match="1 pixels .* 2 times and needs at least 2"):
        effnet_tf.cost(small, resolution=1)


def test_docstring_example():
    assert doctest.testmod(cost_module).failed == 0


def test_counting_needs_no_tensorflow():
    code = (
        "import sys, effnet_tf; effnet_tf.cost('b7'); effnet_tf.RECIPES;"
        "sys.exit(bool({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestMemory:
    """Of a network small enough to count by hand: see the comments."""

    @pytest.fixture
    def network(self, tiny_variants):
        return dataclasses.replace(effnet_tf.VARIANTS["tinier"], num_classes=10)

    def test_of_inference(self, network):
        one = effnet_tf.cost(network)
        # Block 2 expands nothing: 8 channels of 16 x 16 go in, wait, and come out.
        assert one.inference_bytes == 4 * one.params + 4 * 3 * 8 * 16**2
        batch = effnet_tf.cost(network, batch_size=5, dtype="bfloat16")
        assert batch.inference_bytes == 4 * one.params + 5 * 2 * 3 * 8 * 16**2

    def test_of_training(self, network):
        pixels, map_, head = 3 * 32**2, 8 * 16**2, 16 * 16**2
        kept = (
            pixels
            + map_  # of the stem
            + (map_ + 8 + 8 + map_)  # block 1: depthwise, squeeze and excite, project
            + (map_ + 2 + 8 + map_ + map_)  # block 2, and its sum
            + (head + 10)
        )
        in_flight = map_ + head  # gradients of the head's input and output
        cost = effnet_tf.cost(network, batch_size=5, dtype="float16")
        state = 4 * (2 * cost.params + 3 * cost.trainable_params)
        assert cost.training_bytes == state + 5 * 2 * (kept + in_flight)

    def test_the_widest_place_may_be_before_the_head(self, network):
        thin = dataclasses.replace(network, head_filters=8, num_classes=1)
        kept = 3 * 32**2 + 6 * 8 * 16**2 + 26  # pixels, six maps, and SE's numbers
        cost = effnet_tf.cost(thin)
        state = 4 * (2 * cost.params + 3 * cost.trainable_params)
        # In block 2: the gradients of the depthwise convolution, while that of the sum waits.
        # At the head one more map is kept, and one less in flight.
        assert cost.training_bytes == state + 4 * (kept + 3 * 8 * 16**2 + 1)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (dict(batch_size=0), "batch_size is 0"),
            (dict(batch_size=1.5), "whole number"),
            (dict(dtype="int8"), "float32, bfloat16, float16"),
        ],
    )
    def test_refuses(self, arguments, message):
        with pytest.raises(effnet_tf.InputError, match=message):
            effnet_tf.cost("b0", **arguments)

    def test_a_network_is_the_sum_of_its_parts(self):
        """What the planner adds up: the first block of a stage, and then equal ones."""
        for name in ("b3", "lite2", "edgetpu-m"):
            network = effnet_tf.variants.resolve(name)
            parts, side = [], network.side
            for convolutions, skip in [
                ((network.stem,), False),
                *((block.convolutions, block.skip) for block in network.blocks),
                ((network.head, network.classifier), False),
            ]:
                part = cost_module.count_part(convolutions, side, skip)
                if parts and parts[-1][0] == part:
                    parts[-1] = part, parts[-1][1] + 1
                else:
                    parts.append((part, 1))
                side = part.side
            assert len(parts) < len(network.blocks)
            total = cost_module.add_up(parts, 3 * network.side**2)
            assert dataclasses.astuple(total) == dataclasses.astuple(effnet_tf.cost(name))
