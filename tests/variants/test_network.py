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
        f"efficientnet-{goldens.OFFICIAL.get(name, name)}" for name in goldens.efficientnets()
    } == set(FACTS)


@pytest.mark.parametrize("name", goldens.efficientnets())
def test_scaling_equals_the_original(name):
    variant, expected = variants.VARIANTS[name], fact(name)["scaling"]
    network = variants.resolve(name)
    blocks = network.blocks
    assert (
        variant.width_coefficient,
        variant.depth_coefficient,
        variant.resolution,
        variant.dropout_rate,
    ) == tuple(expected[key] for key in ("width", "depth", "resolution", "dropout"))
    assert (network.stem.filters, network.head.filters) == (expected["stem"], expected["head"])
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


@pytest.mark.parametrize("name", goldens.efficientnets())
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
        if variant.ten_percent_rule
        and variants.round_filters(stage.filters, variant.width_coefficient)
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
        ("yolo", "No known name is near"),
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


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num_classes=0), "num_classes is 0"),
        (dict(dropout_rate=1.0), "dropout_rate is 1.0"),
        (dict(drop_connect_rate=-1), "drop_connect_rate is -1"),
        (dict(output_stride=4), "output_stride is 4"),
        (dict(preprocessing="caffe"), "must be True"),
    ],
)
def test_resolve_refuses(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        variants.resolve("b0", **arguments)


def test_resolve_takes_what_it_is_given():
    network = variants.resolve(
        "b0", num_classes=7, resolution=65, channels=1, dropout_rate=0.6, preprocessing="inception"
    )
    assert (network.side, network.dropout_rate, network.classifier.filters) == (65, 0.6, 7)
    assert (network.stem.input_filters, network.mean, network.std) == (1, (127.5,), (127.5,))
    assert variants.resolve("lite1").mean == (127.0,) * 3
    assert variants.resolve("b0", preprocessing=False).mean == ()


@pytest.mark.parametrize("name", ["network", "rows", "table", "counting"])
def test_docstring_examples_are_true(name):
    import doctest
    import importlib

    module = importlib.import_module(f"effnet_tf.variants.{name}")
    assert doctest.testmod(module, extraglobs={"VARIANTS": variants.VARIANTS}).failed == 0
