"""variants/baselines.py: what else the paper scales, and what it costs."""

import dataclasses
import math

import pytest

import effnet_tf
from effnet_tf import variants

# Parameters, batch-norm statistics included, of keras.applications' models, which `count_params`
# gives; multiply-adds at 224 pixels, in millions, as published: MobileNetV1 in table 8 of
# arXiv 1704.04861, V2 in table 4 of arXiv 1801.04381, V3 in table 3 of arXiv 1905.02244, ResNet-50
# in table 1 of arXiv 1512.03385.
PUBLISHED = {
    "mobilenet_v1": (4_253_864, 569),
    "mobilenet_v2": (3_538_984, 300),
    "mobilenet_v3_large": (5_507_432, 219),
    "mobilenet_v3_small": (2_554_968, 56),
    "resnet50": (25_636_712, 3_800),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_those_published(name):
    params, millions = PUBLISHED[name]
    cost = effnet_tf.cost(name)
    assert cost.params == params
    # MobileNetV3-Large has 1.1 % fewer by every count of its layers; ResNet's 3.8 are rounded.
    assert cost.multiply_adds / 1e6 == pytest.approx(millions, rel=0.016)


def test_counts_to_the_last_digit():
    """By adding up the layers of keras.applications' models."""
    assert {name: effnet_tf.cost(name).multiply_adds for name in PUBLISHED} == {
        "mobilenet_v1": 568_740_352,
        "mobilenet_v2": 300_774_272,
        "mobilenet_v3_large": 216_589_760,
        "mobilenet_v3_small": 56_510_400,
        "resnet50": 3_857_973_248,
    }
    # Strides in the 3x3 convolution: 4.09, as table 3 of EfficientNet's paper has it.
    resnet_b = variants.in_family("resnet50", "timm")
    assert effnet_tf.cost(resnet_b).multiply_adds == 4_089_184_256


# Table 3 of EfficientNet's paper: (depth, width, resolution) and billions of multiply-adds.
TABLE_3 = [
    ("mobilenet_v1", (1, 1, 1), 0.6),
    ("mobilenet_v1", (1, 2, 1), 2.2),
    ("mobilenet_v1", (1.4, 1.2, 1.3), 2.3),
    ("mobilenet_v2", (1, 1, 1), 0.3),
    ("mobilenet_v2", (4, 1, 1), 1.2),
    ("mobilenet_v2", (1, 2, 1), 1.1),
    ("mobilenet_v2", (1, 1, 2), 1.2),
    ("resnet50", (1, 1, 1), 4.1),
    ("resnet50", (1, 1, 2), 16.4),
]


@pytest.mark.parametrize("name, factors, billions", TABLE_3)
def test_table_3_of_the_paper(name, factors, billions):
    depth, width, resolution = factors
    row = variants.find_variant(name)
    if name == "resnet50":  # with its strides in the 3x3 convolutions
        row = variants.in_family(row, "timm")
    scaled = dataclasses.replace(
        row, depth_coefficient=depth, width_coefficient=width, resolution=round(224 * resolution)
    )
    assert round(effnet_tf.cost(scaled).multiply_adds / 1e9, 1) == billions


class TestBottlenecks:
    def test_in_order(self):
        first, second = variants.blocks("resnet50")[3:5]
        assert [(each.name, each.kernel_shape, each.strides) for each in first.convolutions] == [
            ("shortcut_conv", (1, 1, 256, 512), 2),
            ("reduce_conv", (1, 1, 256, 128), 2),
            ("middle_conv", (3, 3, 128, 128), 1),
            ("project_conv", (1, 1, 128, 512), 1),
        ]
        assert [each.name for each in second.convolutions] == [
            *("reduce_conv", "middle_conv", "project_conv")
        ]
        last = second.convolutions[-1]
        assert (last.activation, last.after_sum, last.bias) == ("relu", True, True)
        assert first.skip and second.skip

    def test_of_the_other_kind_stride_in_the_middle(self):
        first = variants.blocks(variants.in_family("resnet50", "torchvision"))[3]
        assert [each.strides for each in first.convolutions] == [2, 1, 2, 1]
        assert not any(each.bias for each in first.convolutions)

    def test_dilated_they_keep_their_convolutions(self):
        plain = variants.resolve("resnet50")
        dilated = variants.resolve("resnet50", output_stride=8)
        assert [each.kernel_shape for each in plain.convolutions()] == [
            each.kernel_shape for each in dilated.convolutions()
        ]
        assert math.prod(block.strides for block in dilated.blocks) == 2  # the stem has 4
        assert dilated.blocks[-1].dilation_rate == 4

    def test_always_have_a_skip(self):
        row = variants.VARIANTS["resnet50"]
        stages = (dataclasses.replace(row.stages[0], skip=False),)
        with pytest.raises(effnet_tf.InputError, match="'bottleneck', which always has a skip"):
            variants.resolve(dataclasses.replace(row, stages=stages))


class TestMobileNetV3:
    def test_squeeze_counts_from_the_hidden_channels(self):
        blocks = variants.blocks("mobilenet_v3_large")
        assert [block.expanded_filters for block in blocks][6:10] == [240, 200, 184, 184]
        assert [block.se_filters for block in blocks] == [
            *(0, 0, 0, 24, 32, 32, 0, 0, 0, 0, 120, 168, 168, 240, 240)
        ]
        assert [block.se_filters for block in variants.blocks("mobilenet_v3_small")][:4] == [
            *(8, 0, 0, 24)
        ]

    def test_gates_and_activations(self):
        block = variants.blocks("mobilenet_v3_large")[10]
        expand, _, reduce, gate, project = block.convolutions
        assert [each.activation for each in (expand, reduce, gate, project)] == [
            *("hard_swish", "relu", "hard_sigmoid", None)
        ]

    def test_its_ending(self):
        ending = variants.resolve("mobilenet_v3_large", num_classes=7).ending
        assert [(each.name, each.kernel_shape, each.activation) for each in ending] == [
            ("top_conv", (1, 1, 160, 960), "hard_swish"),
            ("top_projection", (960, 1280), "hard_swish"),
            ("predictions", (1280, 7), None),
        ]


def test_the_smallest_image_leaves_one_pixel():
    assert {variants.resolve(name).least_side for name in ("resnet50", "mobilenet_v1", "b0")} == {
        32
    }


def test_endpoints_have_their_strides():
    """The stem gives the first where no block has the stride 2."""
    for name, first in (("mobilenet_v3_small", 2), ("resnet50", 2), ("mobilenet_v2", 1)):
        found = [block.reduction for block in variants.blocks(name) if block.reduction]
        assert found == list(range(first, 6)), name


def test_odd_sides_are_padded_as_keras_applications_does():
    strided = variants.blocks("mobilenet_v1")[1].convolutions[0]
    assert strided.explicit_padding == (0, 1)
    assert [strided.output_side(side) for side in (6, 7, 8)] == [3, 3, 4]


class TestFamilies:
    def test_tf_is_what_the_rows_are_however_scaled(self):
        scaled = effnet_tf.CompoundScaling().variant(1, "resnet50")
        theirs = variants.in_family(scaled, "timm")
        assert (theirs.padding, theirs.batch_norm_epsilon) == ("symmetric", 1e-5)
        assert theirs.stages[0].kind == "bottleneck_b" and not theirs.conv_bias
        again = variants.in_family(theirs, "tf")
        fields = ("padding", "batch_norm_epsilon", "stages", "conv_bias", "depth_coefficient")
        assert [getattr(again, name) for name in fields] == [
            getattr(scaled, name) for name in fields
        ]

    def test_models_have_the_name_of_their_network(self):
        scaled = effnet_tf.CompoundScaling().variant(1, "resnet50")
        assert variants.model_name(scaled) == "resnet50-phi1"
        assert variants.model_name(variants.VARIANTS["lite0"]) == "efficientnet-lite0"
