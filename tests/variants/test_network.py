"""variants/network.py: every number of every variant, against the original code's graphs."""

import dataclasses
import json
import math

import pytest

from effnet_tf import errors, variants
from tests.helpers import goldens

FACTS = json.loads((goldens.REFERENCE / "variants.json").read_text())


def fact(name):
    return FACTS[f"efficientnet-{goldens.OFFICIAL.get(name, name)}"]


def test_every_variant_of_the_family_is_a_row():
    assert {
        f"efficientnet-{goldens.OFFICIAL.get(name, name)}" for name in variants.VARIANTS
    } == set(FACTS)


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_scaling_equals_the_original(name):
    variant, expected = variants.VARIANTS[name], fact(name)["scaling"]
    blocks = variants.blocks(name)
    assert (
        variant.width_coefficient,
        variant.depth_coefficient,
        variant.resolution,
        variant.dropout_rate,
    ) == tuple(expected[key] for key in ("width", "depth", "resolution", "dropout"))
    assert variants.stem_and_head_filters(variant) == (expected["stem"], expected["head"])
    assert len(blocks) == expected["n_blocks"]
    for number, stage in enumerate(expected["stages"], start=1):
        found = [block for block in blocks if block.stage == number]
        assert len(found) == stage["repeats"]
        assert {block.filters for block in found} == {stage["filters_out"]}
        assert {block.kernel_size for block in found} == {stage["kernel"]}
        assert {block.fused for block in found} == {stage["fused"]}
        assert [block.strides for block in found] == [stage["stride"]] + [1] * (len(found) - 1)
        assert found[0].se_filters == (stage["se_first"] or 0)
        assert {block.se_filters for block in found[1:]} <= {stage["se_rest"] or 0}
        # The first block's expansion counts from the declared input (EdgeTPU: 24, not 32);
        # without expansion the channels are the real ones (Lite's stem does not scale).
        assert found[0].expanded_filters == (
            expected["stem"] if stage["expand"] == 1 else stage["filters_in"] * stage["expand"]
        )


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_endpoints_equal_the_original(name):
    side, found = math.ceil(variants.VARIANTS[name].resolution / 2), {}
    for block in variants.blocks(name):
        side = math.ceil(side / block.strides)
        if block.reduction:
            found[f"reduction_{block.reduction}"] = [1, side, side, block.filters]
    expected = fact(name)["endpoints"]
    assert found == {key: expected[key] for key in expected if key.startswith("reduction")}


def test_ten_percent_rule_fires_once():
    fired = {
        (name, stage.filters)
        for name, variant in variants.VARIANTS.items()
        for stage in variant.stages
        if variants.round_filters(stage.filters, variant.width_coefficient)
        != int(stage.filters * variant.width_coefficient + 4) // 8 * 8
    }
    assert fired == {("b3", 16), ("lite3", 16)}


@pytest.mark.parametrize("name, expected", [("b0", 0.1875), ("b7", 0.2 * 54 / 55)])
def test_drop_connect_ramps_over_scaled_blocks(name, expected):
    blocks = variants.blocks(name)
    # The last block with a skip carries the largest rate; none reaches 0.2.
    ramp = [0.2 * index / len(blocks) for index in range(len(blocks))]
    assert [block.drop_connect_rate for block in blocks] == [
        rate if block.skip else 0 for rate, block in zip(ramp, blocks)
    ]
    assert ramp[-1] == pytest.approx(expected)


def test_blocks_are_named_like_keras_applications():
    names = [block.name for block in variants.blocks("l2")]
    assert names[0] == "block1a" and names[-1] == "block7f"
    assert "block6v" in names  # the 22nd
    assert [variants.block_letter(index) for index in (0, 25, 26, 27, 51, 52)] == [
        "a",
        "z",
        "aa",
        "ab",
        "az",
        "ba",
    ]
    assert len(set(names)) == len(names) == 88


@pytest.mark.parametrize(
    "name, near",
    [
        ("b9", "b8"),
        ("efficientnet-b3", "b3"),
        ("EfficientNetLite2", "lite2"),
        ("edgetpu", "edgetpu-s"),
        ("resnext101", "Known: b0"),
    ],
)
def test_unknown_variant_names_the_nearest(name, near):
    with pytest.raises(errors.InputError, match=f"no variant '{name}'.*{near}"):
        variants.blocks(name)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(width_coefficient=0.2), "without filters"),
        (dict(width_coefficient=-1.0), "without filters"),
        (dict(depth_coefficient=0.0), "depth_coefficient"),
    ],
)
def test_impossible_variants_are_refused(change, message):
    with pytest.raises(errors.InputError, match=message):
        variants.blocks(dataclasses.replace(variants.VARIANTS["b0"], **change))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_connect_rate_out_of_range(rate):
    with pytest.raises(errors.InputError, match="drop_connect_rate"):
        variants.blocks("b0", rate)


class TestCompoundScaling:
    def test_reports_the_growth_of_cost(self):
        assert variants.CompoundScaling().cost_per_phi == pytest.approx(1.92027)

    @pytest.mark.parametrize("phi", [-3, -0.5, 0, 0.7, 2, 5])
    def test_follows_equation_3(self, phi):
        variant = variants.CompoundScaling(1.3, 1.05, 1.1).variant(phi, base="lite1")
        assert variant.depth_coefficient == pytest.approx(1.1 * 1.3**phi)
        assert variant.width_coefficient == pytest.approx(1.0 * 1.05**phi)
        assert variant.resolution == round(240 * 1.1**phi)
        assert variant.activation == "relu6" and variant.se_ratio == 0
        variants.blocks(variant)

    def test_phi_zero_is_the_base(self):
        scaled = variants.CompoundScaling().variant(0)
        assert dataclasses.replace(scaled, name="b0") == variants.VARIANTS["b0"]

    def test_no_phi_reproduces_b5(self):
        b5 = variants.VARIANTS["b5"]
        phis = [math.log(b5.width_coefficient, 1.1), math.log(b5.depth_coefficient, 1.2)]
        assert abs(phis[0] - phis[1]) > 0.5
        assert "no phi reproduces" in " ".join(variants.CompoundScaling.__doc__.split())

    @pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
    @pytest.mark.parametrize("value", [0.99, 0, -1, math.nan, math.inf])
    def test_refuses_constants_below_one(self, name, value):
        with pytest.raises(errors.InputError, match=f"{name} is"):
            variants.CompoundScaling(**{name: value})

    @pytest.mark.parametrize(
        "phi, message",
        [(-15, "stage 1 .* without filters"), (-1000, "without filters"), (math.nan, "finite")],
    )
    def test_refuses_phi_that_leaves_nothing(self, phi, message):
        with pytest.raises(errors.InputError, match=message):
            variants.CompoundScaling().variant(phi)

    @pytest.mark.parametrize("phi", [80, 5000, math.inf])
    def test_refuses_phi_that_no_machine_can_hold(self, phi):
        with pytest.raises(errors.InputError, match="phi"):
            variants.CompoundScaling().variant(phi)

    def test_refuses_images_too_small(self):
        with pytest.raises(errors.InputError, match="28 pixels .* at least 32"):
            variants.CompoundScaling(beta=1.0).variant(-15)


def test_docstring_examples_are_true():
    import doctest

    assert doctest.testmod(variants).failed == 0
