"""variants/efficientnet_v2.py: every number of EfficientNetV2."""

import dataclasses

import pytest

import effnet_tf
from effnet_tf import variants

NAMES = ["b0", "b1", "b2", "b3", "s", "m", "l", "xl"]
# Of the original code's graph: trainable parameters, all of them, multiply-adds at the resolution.
COUNTED = {
    "b0": (7_139_704, 7_200_312, 718_086_176),
    "b1": (8_141_052, 8_212_124, 1_196_819_360),
    "b2": (10_096_086, 10_178_374, 1_697_542_832),
    "b3": (14_358_406, 14_467_622, 3_011_458_816),
    "s": (21_458_488, 21_612_360, 8_365_617_152),
    "m": (54_139_356, 54_431_388, 24_582_460_384),
    "l": (118_515_272, 119_027_848, 56_079_699_008),
    "xl": (208_119_808, 208_896_832, 93_353_451_520),
}


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_the_originals(name):
    cost = effnet_tf.cost(f"v2-{name}")
    assert (cost.trainable_params, cost.params, cost.multiply_adds) == COUNTED[name]


def test_channels_lack_the_ten_percent_rule():
    found = variants.resolve("v2-b3")
    assert (found.stem.filters, found.blocks[0].filters, found.head.filters) == (40, 16, 1536)
    assert [block.filters for block in found.blocks if block.name.endswith("a")] == [
        *(16, 40, 56, 112, 136, 232)
    ]
    assert variants.round_filters(16, 1.2) == 24 and variants.round_filters(16, 1.2, False) == 16


def test_a_fused_block_without_expansion_is_one_convolution_with_an_activation():
    first, expanding = variants.blocks("v2-b0")[:2]
    assert [(each.name, each.kernel_shape, each.activation) for each in first.convolutions] == [
        ("project_conv", (3, 3, 32, 16), "swish")
    ]
    assert [(each.name, each.strides, each.activation) for each in expanding.convolutions] == [
        ("expand_conv", 2, "swish"),
        ("project_conv", 1, None),
    ]


def test_only_unfused_stages_squeeze():
    widths = {block.stage: block.se_filters for block in variants.blocks("v2-s")}
    assert widths == {1: 0, 2: 0, 3: 0, 4: 32, 5: 40, 6: 64}


@pytest.mark.parametrize(
    "name, last", [("b1", 0.19259), ("b2", 0.19286), ("b3", 0.19375), ("xl", 0.198)]
)
def test_the_drop_ramp_is_over_the_scaled_blocks(name, last):
    blocks = variants.blocks(f"v2-{name}")
    assert blocks[-1].drop_connect_rate == pytest.approx(last, abs=1e-5)


def test_batch_norm_and_pixels():
    for name in NAMES:
        network = variants.resolve(f"v2-{name}")
        assert (network.batch_norm_momentum, network.batch_norm_epsilon) == (0.9, 1e-3)
        constants = variants.IMAGENET_MEAN if name.startswith("b") else (128.0,) * 3
        assert network.mean == constants


def test_a_scaled_one_is_still_one():
    scaled = effnet_tf.CompoundScaling().variant(-4, "v2-s")
    assert not scaled.ten_percent_rule
    assert variants.model_name(scaled) == "efficientnetv2-s-phi-4"


def test_an_unknown_graph_is_refused():
    row = dataclasses.replace(variants.VARIANTS["v2-b0"], keras_graph="v3")
    with pytest.raises(effnet_tf.InputError, match="keras_graph of variant 'v2-b0' is 'v3'"):
        variants.resolve(row)
