"""scaling/planning.py, lines.py, free.py: plans equal to looking at every network there is."""

import dataclasses
import itertools
import subprocess
import sys

import pytest

import effnet_tf
from effnet_tf import scaling, variants
from effnet_tf.variants import Stage
from tests.scaling import enumeration

B0 = variants.VARIANTS["b0"]
# A baseline of a stranger. Where its stem is as wide as what its first block would be widened to,
# a convolution drops out; at 1.05 times the width it is there again, and at 1.45 it is gone.
OWN = dataclasses.replace(
    B0,
    name="own",
    resolution=96,
    stem_filters=32,
    head_filters=200,
    num_classes=10,
    stages=(
        Stage(24, 1, 3, 1, 2, 16),
        Stage(40, 3, 5, 2, 4, 24),
        Stage(40, 2, 3, 1, 3, 40, fused=True),
        Stage(96, 2, 3, 2, 6, 40),
    ),
)
# Where each line is looked at.
SPANS = {
    "compound": (-1.5, 1.5),
    "width": (0.5, 1.8),
    "depth": (0.2, 4),
    "resolution": (0.4, 3),
    "fast": (-1.5, 1.5),
    "tiny": (-4.007, -0.187),
}
TARGETS = [
    dict(multiply_adds=600e6),
    dict(multiply_adds=250e6, params=5e6),
    dict(multiply_adds=700e6, train_memory=1.0e9),
    dict(params=4.1e6, train_memory=1.3e9),
    dict(multiply_adds=20e6),
]
NAMES = {"train_memory": "training_bytes"}


def planned(base, strategy, targets, **more):
    try:
        (found,) = scaling.plan(base, strategy=strategy, batch=16, **targets, **more)
    except scaling.OutOfReach:
        return None
    return found.cost.multiply_adds, -found.cost.params


@pytest.mark.parametrize("strategy", SPANS)
def test_the_best_on_a_line_is_that_of_looking_at_every_network(strategy):
    everything = enumeration.networks(B0, strategy, *SPANS[strategy])
    assert len(everything) >= 10
    for targets in TARGETS:
        if strategy == "resolution" and "multiply_adds" not in targets:
            targets = {**targets, "multiply_adds": 1e9}
        wanted = enumeration.best(
            everything, **{NAMES.get(name, name): most for name, most in targets.items()}
        )
        if wanted is not None:  # else it is below the span
            assert planned(B0, strategy, targets) == wanted, targets


@pytest.mark.parametrize("strategy", ["compound", "width", "depth", "resolution", "fast"])
def test_of_a_baseline_of_ones_own(strategy):
    everything = enumeration.networks(OWN, strategy, *SPANS[strategy])
    costs = sorted(cost.multiply_adds for cost, _ in everything)
    for most in costs[len(costs) // 4 :: max(len(costs) // 40, 1)]:
        for budget in (most, most - 1):
            wanted = enumeration.best(everything, multiply_adds=budget)
            assert planned(OWN, strategy, dict(multiply_adds=budget)) == wanted


def test_the_baseline_of_ones_own_is_not_monotone():
    """Else the test above says less than it seems to."""
    costs = [cost.multiply_adds for cost, _ in enumeration.networks(OWN, "width", *SPANS["width"])]
    assert costs != sorted(costs)


def test_sides_may_be_a_multiple_of_anything():
    everything = enumeration.networks(B0, "resolution", 0.4, 3, 1)
    wanted = enumeration.best(everything, multiply_adds=600e6)
    assert planned(B0, "resolution", dict(multiply_adds=600e6), multiple_of=1) == wanted
    (found,) = scaling.plan(multiply_adds="600M", strategy="resolution", multiple_of=1)
    assert found.variant.resolution % 2 or found.variant.resolution % 32
    assert scaling.plan("b2", params="8M", strategy="depth")[0].variant.resolution == 256


def test_what_is_computed_again_leaves_room_for_a_larger_network():
    found = [
        scaling.plan(train_memory="2G", remat=remat)[0] for remat in ("none", "expansion", "block")
    ]
    sizes = [plan.cost.multiply_adds for plan in found]
    assert sizes == sorted(set(sizes))
    for plan, remat in zip(found[1:], ("expansion", "block")):
        assert plan.cost == effnet_tf.cost(plan.variant, batch_size=32, remat=remat)
        assert plan.slack["train_memory"] == 2e9 - plan.cost.training_bytes


def test_released_variants_are_found_by_their_own_costs():
    cost = effnet_tf.cost("b0", batch_size=32)
    for strategy in ("compound", "width", "depth", "resolution", "fast"):
        (found,) = scaling.plan(
            multiply_adds=cost.multiply_adds,
            params=cost.params,
            train_memory=cost.training_bytes,
            strategy=strategy,
        )
        assert dataclasses.astuple(found.cost) == dataclasses.astuple(cost)
        assert not any(found.slack.values())
        assert variants.blocks(found.variant) == variants.blocks("b0")
        assert found.variant.resolution == 224


def test_few_networks_are_looked_at(monkeypatch):
    """So it takes a fraction of a second, where looking at all of them takes minutes."""
    resolved = []

    def resolve(row):
        resolved.append(row)
        return variants.resolve(row)

    monkeypatch.setattr(scaling.nets, "resolve", resolve)
    scaling.plan(multiply_adds="600M", params="6M", strategy="all")
    assert 0 < len(resolved) < 500


class TestFreeAxes:
    def test_equal_to_the_whole_grid(self):
        targets = dict(multiply_adds=25e6, params=300e3)
        grid = [index / 100 for index in range(25, 401)]
        sides = range(32, 96 * 4 + 1, 32)
        found = {}
        for width, depth in itertools.product(grid, grid[::8]):
            row = dataclasses.replace(OWN, width_coefficient=width, depth_coefficient=depth)
            found.setdefault(enumeration.integers(row), row)
        ranks = set()
        for row in found.values():
            for side in sides:
                cost = effnet_tf.cost(row, resolution=side)
                if cost.multiply_adds > targets["multiply_adds"]:
                    break
                if cost.params <= targets["params"]:
                    ranks.add((cost.multiply_adds, -cost.params))
        plans = scaling.plan(OWN, free="d,w,r", **targets)
        assert [(p.cost.multiply_adds, -p.cost.params) for p in plans] == sorted(ranks)[:-4:-1]

    @pytest.mark.parametrize("free", ["d", "w", "r"])
    def test_one_axis_is_that_line(self, free):
        strategy = {"d": "depth", "w": "width", "r": "resolution"}[free]
        budget = 450e6
        plans = scaling.plan(multiply_adds=budget, free=free)
        assert len({plan.cost.multiply_adds for plan in plans}) == 3
        (line,) = scaling.plan(multiply_adds=budget, strategy=strategy)
        assert 0.99 * line.cost.multiply_adds <= plans[0].cost.multiply_adds
        assert plans[0].cost.multiply_adds <= line.cost.multiply_adds
        for plan in plans:  # what is not free is the base's
            kept = {"w": "width_coefficient", "d": "depth_coefficient", "r": "resolution"}
            kept.pop(free)
            assert all(getattr(plan.variant, name) == getattr(B0, name) for name in kept.values())

    def test_every_target_counts(self):
        targets = dict(multiply_adds=600e6, params=6e6, train_memory=0.8e9)
        plans = scaling.plan(free="d,w,r", batch=16, **targets)
        assert len(plans) == 3
        for plan in plans:
            assert all(left >= 0 for left in plan.slack.values())
            cost = effnet_tf.cost(plan.variant, batch_size=16)
            assert dataclasses.astuple(plan.cost) == dataclasses.astuple(cost)
            assert plan.slack["train_memory"] == 0.8e9 - cost.training_bytes
        assert plans[0].cost.multiply_adds > scaling.plan(batch=16, **targets)[0].cost.multiply_adds

    @pytest.mark.parametrize("free", ["", "x", "d,d", "depth"])
    def test_refuses_other_axes(self, free):
        with pytest.raises(effnet_tf.InputError, match="d .depth., w .width. and r"):
            scaling.plan(multiply_adds=1e9, free=free)


class TestPlan:
    def test_carries_a_variant_that_can_be_built(self):
        (plan,) = scaling.plan(multiply_adds="600M")
        assert plan.variant.name == "b0-600M-compound" and plan.strategy == "compound"
        assert effnet_tf.cost(plan.variant, batch_size=32) == plan.cost
        assert variants.blocks(plan.variant)

    def test_counts_the_classes_that_will_be_told_apart(self):
        (ten,) = scaling.plan(params="4.2M", num_classes=10)
        (thousand,) = scaling.plan(params="4.2M")
        assert ten.variant.num_classes == 10
        assert ten.cost.multiply_adds > thousand.cost.multiply_adds
        with pytest.raises(effnet_tf.InputError, match="num_classes is 0"):
            scaling.plan(params="6M", num_classes=0)

    def test_all_strategies_best_first(self):
        plans = scaling.plan(multiply_adds="600M", strategy="all")
        assert {plan.strategy for plan in plans} == set(scaling.STRATEGIES)
        counts = [plan.cost.multiply_adds for plan in plans]
        assert counts == sorted(counts, reverse=True)

    def test_a_strategy_that_misses_is_left_out(self):
        # TinyNets keep fewer blocks and narrow ones: the others cannot go so low by one axis.
        plans = scaling.plan(params="2.6M", multiply_adds="60M", strategy="all")
        assert "depth" not in {plan.strategy for plan in plans} and plans

    @pytest.mark.parametrize(
        "strategy, targets, message",
        [
            (
                "depth",
                dict(params=2.5e6),
                "on the line 'depth' of b0 .* nearest, at factor 0.25 .*224 pixels., has "
                r"params .* M, which is .* k \(.* %\) over 2.5 M",
            ),
            (
                "resolution",
                dict(params=1e6),
                r"params 5.3 M, which is 4.3 M \(433.1 %\) over 1.0 M",
            ),
            (
                "width",
                dict(params=6e6, train_memory="64Mi"),
                r"at factor 0.25.* has train_memory .*MB, which is .*MB \(.*\) over 67.1 MB",
            ),
        ],
    )
    def test_out_of_reach_is_said_in_a_sentence(self, strategy, targets, message):
        with pytest.raises(scaling.OutOfReach, match=message):
            scaling.plan(strategy=strategy, **targets)

    def test_out_of_reach_with_free_axes(self):
        with pytest.raises(scaling.OutOfReach, match="with d,w,r free .* the smallest .*params"):
            scaling.plan(params="100k", free="d,w,r")

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (dict(), "no target"),
            (dict(params=0), "params is 0"),
            (dict(params=float("nan")), "params is nan"),
            (dict(params="6 million"), "not an amount"),
            (dict(params=6e6, base="b9"), "no variant"),
            (dict(params=6e6, strategy="height"), "no strategy 'height'"),
            (dict(params=6e6, batch=0), "batch_size is 0"),
            (dict(params=6e6, dtype="int8"), "dtype is 'int8'"),
            (dict(params=6e6, remat="all"), "remat is 'all'"),
            (dict(params=6e6, multiple_of=0), "multiple_of is 0"),
            (dict(params=6e6, multiple_of=4096, free="r"), "0 pixels is too small for b0"),
            (dict(params=6e6, strategy="resolution"), "No target limits the line 'resolution'"),
            (dict(latency_ms=5), "needs a table"),
        ],
    )
    def test_refuses(self, arguments, message):
        with pytest.raises(effnet_tf.InputError, match=message):
            scaling.plan(**arguments)

    def test_docstring_examples_are_true(self):
        import doctest

        assert doctest.testmod(scaling.planning).failed == 0

    def test_needs_no_tensorflow(self):
        code = (
            "import sys; from effnet_tf import scaling; scaling.plan(params='6M', free='w,d');"
            "sys.exit(bool({'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules)))"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0


class TestAmounts:
    @pytest.mark.parametrize(
        "text, value",
        [("600M", 6e8), ("8G", 8e9), ("8Gi", 2**33), ("5.3e6", 5.3e6), ("0.5k", 500), ("12", 12)],
    )
    def test_read(self, text, value):
        assert scaling.targets.parse_amount(text) == value

    @pytest.mark.parametrize("text", ["", "M", "6T", "-5M", "1e", "nan", "6i", "1,5M", "8GB"])
    def test_refused(self, text):
        with pytest.raises(effnet_tf.InputError, match="not an amount"):
            scaling.targets.parse_amount(text)
