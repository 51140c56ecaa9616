"""variants/counting.py: counts equal to the original code's graphs, without TensorFlow."""

import doctest
import importlib
import subprocess
import sys

import pytest

import effnet_tf
from tests.variants.test_network import fact

cost_module = importlib.import_module("effnet_tf.variants.counting")


@pytest.mark.parametrize("name", effnet_tf.VARIANTS)
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


def test_docstring_example():
    assert doctest.testmod(cost_module).failed == 0


def test_counting_needs_no_tensorflow():
    code = (
        "import sys, effnet_tf; effnet_tf.cost('b7'); effnet_tf.RECIPES;"
        "sys.exit(bool({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
