"""variants/layer_names.py: which stage is a layer or variable of?"""

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
