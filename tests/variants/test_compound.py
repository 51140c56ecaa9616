"""variants/compound.py: the paper's compound scaling, and what it refuses."""

import dataclasses
import math

import pytest

from effnet_tf import errors, variants


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
    import importlib

    assert doctest.testmod(importlib.import_module("effnet_tf.variants.compound")).failed == 0
