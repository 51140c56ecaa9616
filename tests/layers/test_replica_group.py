"""layers/replica_group.py: blocks that share statistics are one block that has the whole batch."""

from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.layers import blocks, lean_again, lean_channels, lean_pieces, lean_places, lean_units
from effnet_tf.layers.replica_group import Group
from effnet_tf.train import strategy as strategy_lib
from tests.helpers import worker
from tests.layers.test_lean import FORMS, built, differentiable_moments

IMAGES, SIDES = 2, (5, 7)
SOME = ["mbconv", "without expansion", "bottleneck"]
REMAT = ["none", "expansion", "block"]


def parts(replicas, sides=SIDES):
    """What the replicas get; no two have the same mean, or deviation."""
    draw = np.random.default_rng(0)
    return [draw.normal(each, 1 + each, (IMAGES, *sides, 8)) for each in range(replicas)]


def differentiated(block, x):
    """The output of a block in training, and the gradients of its input and of what trains."""
    variables = [weight.value for weight in block.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = block(x, training=True)
        goal = tf.reduce_sum(tf.sin(outputs))
    return [outputs, *tape.gradient(goal, [x, *variables])]


def by_replicas(strategy, block, inputs, step=differentiated, wrap=lambda step: step):
    """What a step (block, x) gives on every replica, in order."""
    count = strategy.num_replicas_in_sync
    given = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(inputs[context.replica_id_in_sync_group])
    )
    found = wrap(lambda x: strategy.run(step, args=(block, x)))(given)
    return [[np.asarray(each.values[at]) for each in found] for at in range(count)]


def check(strategy, make, size, **how):
    """Groups of replicas have what one device has of their batches together, in the plain form."""
    inputs, step = parts(strategy.num_replicas_in_sync), how.get("step", differentiated)
    with strategy.scope():
        block = make(sync_replicas=size)
    found = by_replicas(strategy, block, inputs, **how)
    for first in range(0, len(inputs), size):
        mine = slice(first, first + size)
        with mock.patch.object(blocks, "obstacle", lambda dtype: "a test"):
            alone = make()
            alone.remat = "none"
            whole = tf.constant(np.concatenate(inputs[mine]))
            expected = step(alone, whole)
        compare(found[mine], expected)
    return block


def compare(group, expected, rtol=1e-9, atol=1e-9):
    (outputs, of_x, *others), of_all = zip(*group), expected[2:]
    for ours, theirs in zip((outputs, of_x), expected[:2], strict=True):
        np.testing.assert_allclose(np.concatenate(ours), theirs, rtol=rtol, atol=atol)
    for ours, theirs in zip(others, of_all, strict=True):
        np.testing.assert_allclose(np.sum(ours, 0), theirs, rtol=rtol, atol=atol)


class _Taken(Exception):
    """The lean form was taken."""


def making(form, remat="none", frozen=(), **how):
    def make(**more):
        block = built(form, **how, **more)
        block.remat = remat
        for name, mode in frozen:
            if mode is None:
                getattr(block, name).trainable = False
            else:
                getattr(block, name).mode = mode
        return block

    return make


@pytest.mark.parametrize("remat", REMAT)
@pytest.mark.parametrize(
    "form",
    [*SOME, *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS if form not in SOME)],
)
def test_two_replicas_are_one_device(form, remat, mirrored):
    check(mirrored, making(form, remat), 2)


def test_a_block_that_shares_is_lean(mirrored):
    with mirrored.scope():
        block = built("mbconv", sync_replicas=2)
    with mock.patch.object(lean_again, "computed", side_effect=_Taken), pytest.raises(_Taken):
        by_replicas(mirrored, block, parts(2))


@pytest.mark.parametrize("remat", ["none", "block"])
def test_half_of_it_may_be_frozen(remat, mirrored):
    check(mirrored, making("mbconv", remat, [("dwconv", None), ("bn", None)]), 2)
    check(mirrored, making("mbconv", remat, [("bn", "inference"), ("expand_bn", "frozen")]), 2)


@pytest.mark.parametrize("remat", ["expansion", "block"])
def test_an_expansion_in_pieces(remat, mirrored, monkeypatch):
    monkeypatch.setattr(lean_pieces, "MEGABYTES", 1e-6)  # an image for each
    check(mirrored, making("5x5, strided", remat), 2)


@pytest.fixture
def under_xla(monkeypatch):
    """Steps take the forms that XLA compiles: on a CPU it compiles none that share anything."""
    monkeypatch.setattr(lean_places, "GraphOrParentsInXlaContext", lambda graph: True)
    monkeypatch.setattr(lean_units, "xla", mock.Mock(optimization_barrier=lambda *all: list(all)))
    monkeypatch.setattr(lean_channels, "LARGE", 0)  # what comes again comes in pieces


@pytest.mark.usefixtures("under_xla")
@pytest.mark.parametrize("remat", REMAT)
@pytest.mark.parametrize("form", ["mbconv", "bottleneck"])
def test_forms_for_xla(form, remat, mirrored):
    check(mirrored, making(form, remat), 2)


@pytest.mark.slow  # the passes of each replica are compiled
def test_a_traced_step(mirrored):
    check(mirrored, making("mbconv", "block"), 2, wrap=tf.function)


@pytest.mark.parametrize("remat", ["none", "block"])
def test_statistics_follow_the_whole_batch(remat, mirrored):
    block = check(mirrored, making("mbconv", remat), 2)
    alone = built("mbconv")
    alone(np.concatenate(parts(2)), training=True)
    for ours, theirs in zip(block.non_trainable_weights, alone.non_trainable_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


@pytest.mark.parametrize("remat", REMAT)
def test_second_derivatives(remat, mirrored, monkeypatch):
    def penalised(block, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, of_x, *others = differentiated(block, x)
            penalty = tf.reduce_sum(of_x**2)
        variables = [weight.value for weight in block.trainable_weights]
        return [outputs, *tape.gradient(penalty, [x, *variables])]

    monkeypatch.setattr(tf.nn, "moments", differentiable_moments)
    check(mirrored, making("5x5, strided", remat), 2, step=penalised)


@pytest.mark.parametrize("remat", REMAT)
def test_replicas_tell_each_other_two_things(remat, mirrored):
    """Statistics and, of their gradient, sums: also where a block is computed again."""
    with mirrored.scope():
        block = making("mbconv", remat)(sync_replicas=2)
    with mock.patch.object(Group, "averages", autospec=True, side_effect=Group.averages) as told:
        by_replicas(mirrored, block, parts(2))
    assert told.call_count == 2 * 2 * len(block._batch_norms())


def in_four():
    """What a process with four devices tests."""
    four = strategy_lib.choose_strategy("mirrored", virtual_devices=4)
    for size in (2, 4):
        for form, remat in (("mbconv", "none"), ("mbconv", "block"), ("fused", "none")):
            check(four, making(form, remat), size)


def test_groups_of_four_replicas(tmp_path):
    process = worker.start(tmp_path / "log", in_four)
    process.join(300)
    assert process.exitcode == 0, (tmp_path / "log").read_text()


def test_a_batch_norm_of_float32_by_itself(mirrored):
    x = [part.astype("float32") for part in parts(2)]
    with mirrored.scope():
        layer = layers.BatchNorm(sync_replicas=2)
        layer.build((None, None, None, 8))
        layer.gamma.assign(np.linspace(0.5, 2, 8))
    exact = layers.BatchNorm(dtype="float64")
    exact.build((None, None, None, 8))
    exact.gamma.assign(layer.gamma)
    found = by_replicas(mirrored, layer, x)
    expected = differentiated(exact, tf.constant(np.concatenate(x), "float64"))
    compare(found, expected, rtol=1e-4, atol=1e-4)
