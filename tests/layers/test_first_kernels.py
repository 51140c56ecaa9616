"""layers/first_kernels.py: what kernels begin with."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import layers
from effnet_tf.layers import first_kernels
from effnet_tf.variants import describe_mbconv

EXPAND, *_ = describe_mbconv(16, 96, 24)
INPUT = (None, None, None, 16)


def kernels_of(seed, flat=False):
    keras.utils.set_random_seed(seed)
    model = effnet_tf.model_fn("lite0", 3, input_shape=(32, 32, 3), flat=flat)
    return [each.numpy() for each in model.weights if each.path.endswith("kernel")]


def test_numbers_of_a_seed_are_the_same_everywhere_and_for_good():
    numbers = first_kernels.normal(2.0, seed=7)((2, 3)).numpy()
    expected = [[4.258703, 0.1270105, 0.03249463], [1.1200525, 0.8195454, 1.7689321]]
    np.testing.assert_allclose(numbers, expected, rtol=1e-6)


def test_numbers_are_normal_to_the_tails():
    numbers = first_kernels.normal(0.5, seed=1)((1000, 1000)).numpy() / 0.5
    for bound, beyond in {1: 0.3173, 2: 0.0455, 3: 0.0027}.items():
        assert (np.abs(numbers) > bound).mean() == pytest.approx(beyond, rel=0.06)
    assert numbers.mean() == pytest.approx(0, abs=0.004)


@pytest.mark.parametrize("flat", [False, True])
def test_a_seed_repeats_the_kernels_of_a_network(flat):
    first, same, other = kernels_of(3, flat), kernels_of(3, flat), kernels_of(4, flat)
    for one, again, different in zip(first, same, other):
        np.testing.assert_array_equal(one, again)
        assert not np.array_equal(one, different)


def test_layers_of_one_shape_differ():
    one, other = (layers.conv_layer(EXPAND, INPUT).kernel.numpy() for _ in range(2))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_precision_draws(dtype):
    layer = layers.conv_layer(EXPAND, INPUT, dtype)
    assert layer.kernel.dtype == dtype
    found = np.asarray(layer.kernel, "float64").std()
    assert found == pytest.approx(np.sqrt(2 / 96), rel=0.1)


def test_a_clone_and_a_file_draw_by_keras_own_initializer():
    layer = layers.conv_layer(EXPAND, INPUT)
    assert type(layer.kernel_initializer) is keras.initializers.VarianceScaling
    again = keras.layers.Conv2D.from_config(layer.get_config())
    again.build(INPUT)
    assert np.asarray(again.kernel).std() == pytest.approx(np.sqrt(2 / 96), rel=0.1)


def test_a_graph_draws_whenever_it_runs():
    """Numbers in it as constants would be in its file, too."""
    values = tf.function(lambda: first_kernels.normal(0.1, seed=5)((64, 64)))
    assert not [
        op
        for op in values.get_concrete_function().graph.get_operations()
        if op.type == "Const" and op.outputs[0].shape.num_elements() > 64
    ]
    assert values().numpy().std() == pytest.approx(0.1, rel=0.1)


def test_replicas_begin_alike(mirrored):
    with mirrored.scope():
        layer = layers.conv_layer(EXPAND, INPUT)
    one, other = (each.numpy() for each in layer.kernel.value.values)
    np.testing.assert_array_equal(one, other)
    assert one.any()
