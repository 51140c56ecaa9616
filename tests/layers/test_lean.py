"""layers/lean.py: a block in its lean form is the plain one, in all its forms and modes."""

import contextlib
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.layers import blocks, lean, lean_channels
from effnet_tf.layers.replica_group import Group
from effnet_tf.variants import kinds

FORMS = {
    "mbconv": lambda **how: layers.MBConv(8, 12, se_filters=2, **how),
    "5x5, strided": lambda **how: layers.MBConv(6, 12, 5, 2, se_filters=2, **how),
    "without expansion": lambda **how: layers.MBConv(8, 8, 5, activation="relu6", **how),
    "dilated": lambda **how: layers.MBConv(8, 12, dilation_rate=2, **how),
    "padded": lambda **how: layers.MBConv(8, 12, 3, 2, padding="symmetric", **how),
    "soft": lambda **how: layers.MBConv(8, 12, activation="softmax", **how),
    "fused": lambda **how: layers.FusedMBConv(8, 12, se_filters=2, activation="relu", **how),
    "fused, strided": lambda **how: layers.FusedMBConv(6, 12, 3, 2, **how),
    "bottleneck": lambda **how: layers.DescribedBlock(
        kinds.describe_bottleneck(8, 4, 12, strides=2), **how
    ),
    "one convolution": lambda **how: layers.DescribedBlock(
        kinds.describe_conv(8, 8, 8, se_filters=2), **how
    ),
    "hard": lambda **how: layers.DescribedBlock(
        kinds.describe_mbconv(8, 12, 8, activation="hard_swish", se_filters=3), **how
    ),
}
SLOW = ("mbconv", "fused", "bottleneck")  # to compile


def maps(n=3, height=7, width=6, dtype="float64"):
    return tf.constant(np.random.default_rng(0).normal(0.3, 1, (n, height, width, 8)), dtype)


def built(form, **how):
    keras.utils.set_random_seed(3)  # by 1 gradients cancel to less than bfloat16 rounds
    block = FORMS[form](**{"dtype": "float64", **how})
    block.build((None, None, None, 8))
    draw = np.random.default_rng(2)
    for weight in block.weights:
        if weight.name in ("gamma", "beta", "moving_mean", "moving_variance", "bias"):
            weight.assign(draw.uniform(0.5, 1.5, weight.shape))
    return block


def trained(block, inputs, run=tf.function):
    """Output of a step, the gradients of all that trains, and the statistics afterwards."""
    variables = [weight.value for weight in block.trainable_weights]

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = block(x, training=True)
            goal = tf.reduce_sum(tf.sin(outputs))
        return outputs, tape.gradient(goal, [x, *variables])

    before = [weight.numpy() for weight in block.weights]
    outputs, gradients = run(step)(inputs)
    found = [outputs, *gradients, *[w.numpy() for w in block.non_trainable_weights]]
    for weight, value in zip(block.weights, before):
        weight.assign(value)
    return [np.asarray(each) for each in found]


class _Taken(Exception):
    """The lean form was taken: nothing more needs to be traced."""


def is_lean(block, inputs, **how):
    """Whether a step of a block, traced anew, takes the lean form."""
    with mock.patch.object(lean.Lean, "__call__", autospec=True, side_effect=_Taken) as form:
        with contextlib.suppress(_Taken):
            tf.function(lambda x: block(x, training=True), **how).get_concrete_function(inputs)
    return form.called


def compare(block, inputs, monkeypatch, rtol=1e-8, atol=1e-9, run=tf.function):
    assert lean.stages(block.convolutions, block) is not None
    found = trained(block, inputs, run)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "obstacle", lambda dtype: "a test")
        expected = trained(block, inputs, run)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def eagerly(step):
    return step


@pytest.mark.parametrize("form", FORMS)
def test_equals_the_plain_form(form, monkeypatch):
    compare(built(form), maps(), monkeypatch, run=eagerly)


@pytest.mark.parametrize(
    "form", ["mbconv", *(pytest.param(f, marks=pytest.mark.slow) for f in FORMS)]
)
def test_of_one_image(form, monkeypatch):
    compare(built(form), maps(1, 5, 9), monkeypatch, run=eagerly)


@pytest.mark.parametrize(
    "form", ["5x5, strided", *(pytest.param(form, marks=pytest.mark.slow) for form in SLOW)]
)
def test_equals_it_when_compiled_in_float32(form, monkeypatch):
    block, inputs = built(form, dtype="float32"), maps(dtype="float32")
    assert is_lean(block, inputs)
    compare(block, inputs, monkeypatch, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("mode", ["inference", "frozen"])
@pytest.mark.parametrize("form", ["mbconv", "bottleneck"])
def test_modes_of_batch_norm(form, mode, monkeypatch):
    block = built(form, batch_norm=mode)
    compare(block, maps(), monkeypatch, run=eagerly)
    statistics = [layer.moving_mean.numpy() for layer in block._batch_norms()]
    block(maps(), training=True)
    for layer, before in zip(block._batch_norms(), statistics):
        np.testing.assert_array_equal(layer.moving_mean, before)


def test_modes_may_differ_within_a_block(monkeypatch):
    block = built("mbconv")
    block.bn.mode, block.expand_bn.trainable = "inference", False
    compare(block, maps(), monkeypatch, run=eagerly)


@pytest.mark.parametrize("frozen", ["dwconv", "se", "bn"])
def test_half_frozen(frozen, monkeypatch):
    block = built("mbconv")
    getattr(block, frozen).trainable = False
    compare(block, maps(), monkeypatch, run=eagerly)


def test_a_frozen_block_is_what_it_is_in_inference():
    block = built("mbconv", trainable=False)
    np.testing.assert_allclose(block(maps(), training=True), block(maps()), rtol=1e-9)


def test_unknown_sides_and_batches(monkeypatch):
    block = built("5x5, strided")
    found = trained(block, maps(), eagerly)
    anything = [tf.TensorSpec((None, None, None, 8), "float64")]
    unknown = trained(block, maps(), lambda step: tf.function(step, input_signature=anything))
    for ours, theirs in zip(unknown, found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


def test_drops_the_same_images(monkeypatch):
    block = built("mbconv", drop_connect_rate=0.5)

    def run(step):
        def masked(x):
            with layers.masks_from(tf.constant([1, 2])):
                return step(x)

        return masked

    compare(block, maps(8), monkeypatch, run=run)


@pytest.mark.slow  # tests/train/test_strategy.py trains whole networks under replicas
@pytest.mark.parametrize("group", [1, 2])
def test_under_replicas(mirrored, group, monkeypatch):
    with mirrored.scope():
        block = built("mbconv", dtype="float32", sync_replicas=group)
    variables = [weight.value for weight in block.trainable_weights]

    def step(x):
        mine = tf.distribute.get_replica_context().replica_id_in_sync_group
        x += tf.cast(mine, "float32")
        with tf.GradientTape() as tape:
            outputs = block(x, training=True)
            goal = tf.reduce_sum(tf.sin(outputs))
        return [outputs, *tape.gradient(goal, variables)]

    def both():
        found = mirrored.run(tf.function(step), args=(maps(dtype="float32"),))
        return [np.asarray(value) for each in found for value in each.values]

    found = both()
    monkeypatch.setattr(blocks, "obstacle", lambda dtype: "a test")
    for ours, theirs in zip(found, both(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=5e-4)


def test_layers_of_the_users_own_are_called(monkeypatch):
    block, calls = built("mbconv"), []

    class Mine(keras.layers.DepthwiseConv2D):
        def call(self, inputs):
            calls.append(inputs.shape)
            return super().call(inputs)

    block.dwconv.__class__ = Mine
    block(maps(), training=True)
    assert calls


def test_inference_is_keras_own():
    block = built("mbconv", dtype="float32")
    graph = tf.function(block).get_concrete_function(maps(dtype="float32")).graph
    found = {node.type for node in graph.get_operations()}
    assert "Conv2D" in found
    assert not found & {"PartitionedCall", "StatefulPartitionedCall", "FusedBatchNormV3"}


@pytest.mark.parametrize(
    "how, dtype, lean_there",
    [
        (dict(), "float32", True),
        (dict(jit_compile=True), "mixed_bfloat16", True),
        (dict(), "mixed_bfloat16", False),
    ],
)
def test_where_the_plain_form_is_taken(how, dtype, lean_there):
    block = built("mbconv", dtype=dtype)
    inputs = tf.cast(maps(), block.compute_dtype)
    assert is_lean(block, inputs, **how) == lean_there


def differentiable_moments(x, axes, keepdims=False):
    """Those of TensorFlow stop a gradient, so that second derivatives are wrong."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean((x - mean) ** 2, axes, keepdims=keepdims)
    return tf.reduce_mean(x, axes, keepdims=keepdims), variance


@pytest.mark.parametrize("remat", ["none", "expansion", "block"])
@pytest.mark.parametrize("mode", ["trainable", pytest.param("inference", marks=pytest.mark.slow)])
def test_second_derivatives(remat, mode, monkeypatch):
    def second(block, x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                goal = tf.reduce_sum(tf.sin(block(x, training=True)))
            penalty = tf.reduce_sum(inner.gradient(goal, x) ** 2)
        return outer.gradient(penalty, [x, *[w.value for w in block.trainable_weights]])

    block, other = built("5x5, strided", batch_norm=mode), built("5x5, strided", batch_norm=mode)
    block.remat = remat
    found = second(block, maps())
    monkeypatch.setattr(tf.nn, "moments", differentiable_moments)
    monkeypatch.setattr(blocks, "obstacle", lambda dtype: "a test")
    for ours, theirs in zip(found, second(other, maps()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("remat", ["expansion", "block"])
class TestRemat:
    @pytest.mark.parametrize(
        "form",
        [
            "mbconv",
            "without expansion",
            *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS),
        ],
    )
    def test_equals_the_plain_form(self, form, remat, monkeypatch):
        block = built(form)
        block.remat = remat
        expected = trained(built(form), maps(), eagerly)
        for ours, theirs in zip(trained(block, maps(), eagerly), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)

    @pytest.mark.slow  # XLA takes seconds for each
    @pytest.mark.parametrize("how", [dict(jit_compile=True), dict()])
    @pytest.mark.parametrize("frozen", [False, True])
    def test_equals_it_when_compiled(self, how, remat, frozen):
        block, other = built("mbconv"), built("mbconv")
        for each in (block, other):
            each.bn.mode = "inference"
            each.se.trainable = not frozen
        expected = trained(other, maps(), eagerly)
        block.remat = remat
        found = trained(block, maps(), lambda step: tf.function(step, **how))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)

    def test_in_half_precision(self, remat):
        block, other = (built("mbconv", dtype="mixed_bfloat16") for _ in range(2))
        block.remat = remat
        x = tf.cast(maps(), "bfloat16")
        found, expected = (trained(each, x, eagerly) for each in (block, other))
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == theirs.dtype
            size = np.abs(theirs.astype("float32")).max()
            ours, theirs = ours.astype("float32"), theirs.astype("float32")
            np.testing.assert_allclose(ours, theirs, atol=0.1 * size + 1e-3)

    def test_of_given_statistics(self, remat):
        block, other = (built("mbconv", batch_norm="inference") for _ in range(2))
        block.remat = remat
        found, expected = (trained(each, maps(), eagerly) for each in (block, other))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)

    def test_is_in_no_file(self, remat):
        block = built("mbconv")
        before = block.get_config()
        block.remat = remat
        assert block.get_config() == before


@pytest.mark.parametrize(
    "form, remat",
    [
        ("mbconv", "expansion"),
        *(
            pytest.param(form, remat, marks=pytest.mark.slow)
            for form in FORMS
            for remat in ("none", "expansion", "block")
        ),
    ],
)
def test_equals_the_plain_form_under_xla(form, remat, monkeypatch):
    monkeypatch.setattr(lean_channels, "LARGE", 0)  # what comes again comes in pieces
    expected = trained(built(form), maps(), eagerly)
    block = built(form)
    block.remat = remat
    found = trained(block, maps(), lambda step: tf.function(step, jit_compile=True))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("policy, widens", [("float32", True), ("mixed_bfloat16", False)])
def test_small_expansions_of_xla_have_their_gradient_from_the_narrow_side(policy, widens):
    block, x = built("mbconv", dtype=policy), maps(dtype=policy.removeprefix("mixed_"))
    step = tf.function(lambda x: block(x, training=True), jit_compile=True)
    with mock.patch.object(lean, "Widening", side_effect=_Taken) as form:
        with contextlib.suppress(_Taken):
            step.get_concrete_function(x)
    assert form.called == widens


def gradient_of_kernel(block, x):
    with tf.GradientTape() as tape:
        outputs = block(x, training=True)
    return tape.gradient(outputs, block.dwconv.kernel.value)


def test_remat_of_xla_waits_behind_a_barrier():
    block = built("mbconv", dtype="float32")
    block.remat = "expansion"

    step = tf.function(lambda x: gradient_of_kernel(block, x), jit_compile=True)
    graph = step.get_concrete_function(maps(dtype="float32")).graph
    found = {node.type for node in graph.get_operations()}
    assert "XlaOptimizationBarrier" in found and "FusedBatchNormV3" not in found


@pytest.mark.parametrize("how, asked", [(dict(jit_compile=True), 3), (dict(), 0)])
def test_xla_takes_the_sums_of_a_batch_once(how, asked):
    block = built("mbconv", dtype="float32")
    block.remat = "block"
    graph = tf.function(lambda x: gradient_of_kernel(block, x), **how)
    with mock.patch.object(Group, "moments", autospec=True, side_effect=Group.moments) as found:
        graph.get_concrete_function(maps(dtype="float32"))
    assert len(found.call_args_list) == asked
    assert all(call.args[0].found is not None for call in found.call_args_list)
