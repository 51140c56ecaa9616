"""variants/accuracies.py: published figures, each for a variant there is."""

import doctest
import importlib

from effnet_tf import variants

accuracies = importlib.import_module("effnet_tf.variants.accuracies")


def test_every_figure_is_of_a_released_variant():
    for rows in variants.ACCURACIES.values():
        assert set(rows) <= set(variants.VARIANTS)
        assert all(70 < row.top1 < 90 and row.source for row in rows.values())


def test_published_top1():
    assert variants.published_top1("imagenet", "lite4") == 81.5
    assert variants.published_top1("imagenet", "b0") is None  # keras.applications names none
    assert variants.published_top1("no such weights", "b0") is None


def test_docstring_examples_are_true():
    assert doctest.testmod(accuracies).failed == 0
