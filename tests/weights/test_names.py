"""names.py: every format's names become ours, for every released variant."""

import gzip
import json

import pytest

from effnet_tf import VARIANTS, blocks
from effnet_tf.weights import names
from tests.helpers import goldens


def tf1_variables(variant):
    """[(name, shape)] of the original code's variables, in the order of creation."""
    if variant == "l2":
        path = goldens.REFERENCE / "efficientnet-l2.variables.json.gz"
        return json.loads(gzip.decompress(path.read_bytes()))["variables"]
    return goldens.read(variant)["variables"]


def canonical_shapes(variant):
    variables = dict(map(tuple, ((name, tuple(shape)) for name, shape in tf1_variables(variant))))
    translated = names.canonical(names.split_tf1(variables))
    return {translated[name]: shape for name, shape in variables.items()}


@pytest.mark.parametrize("variant", VARIANTS)
class TestTf1:
    def test_every_name_is_translated_once(self, variant):
        shapes = canonical_shapes(variant)
        assert len(shapes) == len(tf1_variables(variant))
        for name in shapes:
            assert name.split("/")[-2] in {
                "stem_conv",
                "stem_bn",
                "top_conv",
                "top_bn",
                "predictions",
                "expand_conv",
                "expand_bn",
                "dwconv",
                "bn",
                "reduce",
                "expand",
                "project_conv",
                "project_bn",
            }, name

    def test_the_variant_is_identified(self, variant):
        assert names.identify(canonical_shapes(variant)) == [variant]

    def test_the_first_blocks_alone_may_be_of_several(self, variant):
        count = len(blocks(variant))
        some = {
            name: shape
            for name, shape in canonical_shapes(variant).items()
            if not name.startswith(f"blocks_{count - 1}/")
        }
        assert variant in names.identify(some)

    def test_another_width_is_no_variant(self, variant):
        shapes = {
            name: (*shape[:-1], shape[-1] + 8) for name, shape in canonical_shapes(variant).items()
        }
        assert names.identify(shapes) == []


def test_nothing_is_no_variant():
    assert names.identify({"predictions/kernel": (10, 10)}) == []


@pytest.mark.parametrize(
    "path, expected",
    [
        ("stem_conv/kernel", "stem_conv/kernel"),
        ("stem_conv/stem_conv/kernel:0", "stem_conv/kernel"),
        ("model_weights/top_bn/top_bn/moving_mean:0", "top_bn/moving_mean"),
        ("efficientnetb0/predictions/bias", "predictions/bias"),
        ("block1a_dwconv/block1a_dwconv/depthwise_kernel:0", "blocks_0/dwconv/kernel"),
        ("block1a/dwconv/kernel", "blocks_0/dwconv/kernel"),
        ("block1a/block1a/bn/gamma", "blocks_0/bn/gamma"),
        ("base/block1a/se/reduce/bias", "blocks_0/se/reduce/bias"),
        ("block1a_se_reduce/bias", "blocks_0/se/reduce/bias"),
        ("my_own_dense/kernel", "my_own_dense/kernel"),
        ("kernel", "kernel"),
    ],
)
def test_keras_names(path, expected):
    assert names.canonical(names.split_keras([path])) == {path: expected}


def test_keras_blocks_are_numbered_over_stages_and_beyond_z():
    paths = [f"block6{letters}_bn/gamma" for letters in ("a", "b", "z", "aa")]
    paths += ["block1a_bn/gamma", "block10a_bn/gamma"]
    assert list(names.canonical(names.split_keras(paths)).values()) == [
        f"blocks_{number}/bn/gamma" for number in (1, 2, 3, 4, 0, 5)
    ]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("conv_stem.weight", "stem_conv/kernel"),
        ("bn1.running_var", "stem_bn/moving_variance"),
        ("module.bn2.weight", "top_bn/gamma"),
        ("classifier.bias", "predictions/bias"),
        ("something.else", "something/else"),
        ("odd", "odd"),
    ],
)
def test_timm_names_outside_blocks(name, expected):
    assert names.canonical(names.split_timm([name])) == {name: expected}


def test_timm_blocks_by_their_kind():
    separable = [
        "blocks.0.0.conv_dw.weight",
        "blocks.0.0.conv_pw.weight",
        "blocks.0.0.bn1.bias",
        "blocks.0.0.bn2.bias",
        "blocks.0.0.se.conv_expand.bias",
    ]
    inverted = [
        "blocks.1.0.conv_pw.weight",
        "blocks.1.0.conv_dw.weight",
        "blocks.1.0.conv_pwl.weight",
        "blocks.1.0.bn1.weight",
        "blocks.1.0.bn3.weight",
    ]
    fused = ["blocks.1.1.conv_exp.weight", "blocks.1.1.conv_pwl.weight", "blocks.1.1.bn2.weight"]
    assert list(names.canonical(names.split_timm(separable + inverted + fused)).values()) == [
        "blocks_0/dwconv/kernel",
        "blocks_0/project_conv/kernel",
        "blocks_0/bn/beta",
        "blocks_0/project_bn/beta",
        "blocks_0/se/expand/bias",
        "blocks_1/expand_conv/kernel",
        "blocks_1/dwconv/kernel",
        "blocks_1/project_conv/kernel",
        "blocks_1/expand_bn/gamma",
        "blocks_1/project_bn/gamma",
        "blocks_2/expand_conv/kernel",
        "blocks_2/project_conv/kernel",
        "blocks_2/project_bn/gamma",
    ]


def test_layers_without_names_are_found_by_their_number():
    nameless = names.Nameless(
        [
            "stem_conv",
            "stem_bn",
            "blocks_0/dwconv",
            "blocks_0/bn",
            "blocks_0/se/reduce",
            "predictions",
        ]
    )
    assert [
        nameless.find(name)
        for name in (
            "conv2d",
            "conv2d_1",
            "conv2d_2",
            "depthwise_conv2d",
            "batch_normalization_1",
            "dense",
            "re_lu",
        )
    ] == [
        "stem_conv",
        "block1a/se/reduce",
        "conv2d_2",
        "block1a/dwconv",
        "block1a/bn",
        "predictions",
        "re_lu",
    ]
