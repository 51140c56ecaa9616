"""variants/convolutions.py: the only description of what a network consists of."""

import pytest

from effnet_tf import variants
from effnet_tf.variants.convolutions import Convolution
from effnet_tf.variants.kinds import NAMES_INSIDE


def test_an_mbconv_in_order():
    found = variants.describe_mbconv(16, 96, 24, kernel_size=5, strides=2, se_filters=4)
    assert [(each.name, each.kind, each.kernel_shape, each.activation) for each in found] == [
        ("expand_conv", "full", (1, 1, 16, 96), "swish"),
        ("dwconv", "depthwise", (5, 5, 96, 1), "swish"),
        ("se/reduce", "full", (1, 1, 96, 4), "swish"),
        ("se/expand", "full", (1, 1, 4, 96), "sigmoid"),
        ("project_conv", "full", (1, 1, 96, 24), None),
    ]
    assert [each.batch_norm for each in found] == ["expand_bn", "bn", None, None, "project_bn"]
    assert [each.strides for each in found] == [1, 2, 1, 1, 1]


def test_an_mbconv_without_expansion_and_squeeze():
    found = variants.describe_mbconv(16, 16, 24)
    assert [each.name for each in found] == ["dwconv", "project_conv"]


def test_a_fused_block_always_expands():
    for hidden in (24, 96):
        found = variants.describe_fused_mbconv(24, hidden, 24, dilation_rate=2, activation="relu")
        assert [each.name for each in found] == ["expand_conv", "project_conv"]
        assert found[0].kernel_shape == (3, 3, 24, hidden) and found[0].dilation_rate == 2


@pytest.mark.parametrize(
    "convolution, parameters, trainable, multiply_adds",
    [
        # 7 pixels become 4 at a stride of 2, where padding is SAME.
        (Convolution("a", "full", 2, 5, 3, 2, batch_norm="bn"), 110, 100, 90 * 16),
        (Convolution("a", "depthwise", 5, 5, 3, 1, batch_norm="bn"), 65, 55, 45 * 49),
        (Convolution("a", "full", 2, 5), 15, 15, 10 * 49),
        (Convolution("a", "full", 2, 5, pooled=True), 15, 15, 10),
        (Convolution("a", "dense", 2, 5, pooled=True), 15, 15, 10),
    ],
)
def test_counts(convolution, parameters, trainable, multiply_adds):
    assert convolution.parameters == parameters
    assert convolution.trainable_parameters == trainable
    assert convolution.multiply_adds(7) == multiply_adds


def test_a_whole_network_has_canonical_names():
    names = [each.name for each in variants.resolve("edgetpu-s").convolutions()]
    assert names[:3] == ["stem_conv", "blocks_0/expand_conv", "blocks_0/project_conv"]
    assert names[-3:] == ["blocks_17/project_conv", "top_conv", "predictions"]
    assert len(set(names)) == len(names)
    norms = [each.batch_norm for each in variants.resolve("b0").convolutions() if each.batch_norm]
    assert norms[:3] == ["stem_bn", "blocks_0/bn", "blocks_0/project_bn"]


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_convolution_takes_what_the_one_before_gives(name):
    channels = 3
    biased = name == "resnet50"
    for convolution in variants.resolve(name).convolutions():
        assert convolution.input_filters == channels
        if not (convolution.shortcut or convolution.routes):
            channels = convolution.filters
        if convolution.kind != "dense":
            assert convolution.use_bias == (convolution.pooled or biased)


def test_names_inside_blocks_are_those_of_all_kinds():
    assert set(NAMES_INSIDE) == {
        *("routing", "expand_conv", "expand_bn", "dwconv", "bn"),
        *("se/reduce", "se/expand", "project_conv", "project_bn"),
        *("shortcut_conv", "shortcut_bn", "reduce_conv", "reduce_bn", "middle_conv", "middle_bn"),
    }
