"""variants/layer_names.py: which stage is a layer or variable of?"""

import dataclasses
import doctest
import importlib

import pytest

from effnet_tf import variants
from effnet_tf.variants.layer_names import Place, block_index

layer_names = importlib.import_module("effnet_tf.variants.layer_names")


@pytest.mark.parametrize(
    "name, stage",
    [
        ("stem_conv", "stem"),
        ("stem_bn/gamma", "stem"),
        ("block2a", "stage_2"),
        ("block12ab/se/reduce/bias", "stage_12"),
        ("model/block2a/drop_connect/seed", "stage_2"),
        ("model/block2a_se_expand/kernel", "stage_2"),
        ("top_bn/beta", "head"),
        ("predictions/kernel", "classifier"),
        ("predictions", "classifier"),
        ("my_block2a_head/kernel", None),
        ("block2a_head/kernel", None),
        ("my_stem_conv", None),
        ("stem_activation", None),
        ("normalization", None),
        ("dense/kernel", None),
    ],
)
def test_stage_of(name, stage):
    assert variants.stage_of(name) == stage


@pytest.mark.parametrize(
    "path, place",
    [
        ("block2a/se/reduce", Place("se/reduce", 2, 0)),
        ("block2a_se_reduce", Place("se/reduce", 2, 0)),
        ("block6ab_expand_conv", Place("expand_conv", 6, 27)),
        ("block2a_bn/block2a_bn", Place("bn", 2, 0)),  # as Keras 2 writes it
        ("model/stem_conv", Place("stem_conv")),
        ("predictions", Place("predictions")),
        ("block2a", None),
        ("block2a/drop_connect", None),
        ("stem_conv/kernel", None),
    ],
)
def test_place_of(path, place):
    assert variants.place_of(path) == place


def test_letters_and_indices_are_inverse():
    assert [block_index(variants.block_letter(index)) for index in range(800)] == list(range(800))


def test_docstring_examples_are_true():
    assert doctest.testmod(layer_names).failed == 0


# A renamed network in both forms, and what stands beside it.
@pytest.mark.parametrize("before, after", [("right_", ""), ("", "_2"), ("a.", "-b"), ("net1", "")])
class TestRenamed:
    @pytest.mark.parametrize(
        "name, stage",
        [
            ("{}stem_conv{}/kernel", "stem"),
            ("{}stem_bn{}", "stem"),
            ("{}block2a{}/bn/gamma", "stage_2"),
            ("{}block2a{}/se/reduce", "stage_2"),
            ("{}block2a_se_reduce{}/kernel", "stage_2"),
            ("outer/{}block7ab_expand_bn{}/beta", "stage_7"),
            ("{}block4a_dwconv2{}/kernel", "stage_4"),  # EfficientNetV2
            ("{}top_conv{}", "head"),
            ("{}predictions{}/bias", "classifier"),
            ("{}block2a_head{}/kernel", None),
            ("other_{}stem_conv{}/kernel", None),
            ("{}stem_conv{}_other", None),
            ("{}stem_activation{}", None),
            ("dense/kernel", None),
        ],
    )
    @pytest.mark.parametrize(
        "block", ["{}block3b{}/project_conv/kernel", "{}block3b_project_bn{}/gamma"]
    )
    def test_stages_of(self, before, after, name, stage, block):
        name, block = (each.format(before, after) for each in (name, block))
        assert variants.stages_of([name, block]).get(name) == stage
        assert variants.stages_of([name, block])[block] == "stage_3"

    @pytest.mark.parametrize(
        "path, place",
        [
            ("{}block2a{}/se/reduce", Place("se/reduce", 2, 0)),
            ("m/{}block2a_se_reduce{}", Place("se/reduce", 2, 0)),
            ("{}block6ab_expand_conv{}", Place("expand_conv", 6, 27)),
            ("{}block2a_bn{}/block2a_bn", Place("bn", 2, 0)),  # as Keras 2 writes it
            ("{}stem_conv{}", Place("stem_conv")),
            ("{}block2a{}/drop_connect", None),
            ("other_{}stem_conv{}", None),
        ],
    )
    def test_places_of(self, before, after, path, place):
        path, block = (each.format(before, after) for each in (path, "{}block3b_project_bn{}"))
        found = variants.places_of([path, block])
        if place is not None:
            place = dataclasses.replace(place, network=(before, after))
        assert dataclasses.replace(found.pop(block), network=("", "")) == Place("project_bn", 3, 1)
        assert found == ({} if place is None else {path: place})


def test_without_blocks_only_the_plain_names_are_a_networks():
    names = ["convnext_tiny_stem_conv", "my_top_conv", "stem_conv", "predictions_2"]
    assert variants.stages_of(names) == {"stem_conv": "stem"}
