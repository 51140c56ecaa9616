"""The networks of equal cost: all of them, each once, as trying every factor finds them."""

import dataclasses
import math

import pytest

import effnet_tf
from effnet_tf.search.candidates import AXES, enumerate_candidates, sample
from effnet_tf.variants import resolve, round_filters
from tests.search.few_images import BASE

TWO = dataclasses.replace(
    BASE, stages=(*BASE.stages, effnet_tf.Stage(16, 2, 3, 2, 2, 8)), se_ratio=0.25
)


def integers(variant):
    """What can be seen of a network: every convolution's shape, and the side."""
    network = resolve(variant)
    return tuple(each.kernel_shape for each in network.convolutions()), network.side


def by_trying(base, factor, tolerance, multiple_of, most=16):
    """Every network within the tolerance: widths up to 3, depths up to 8, sides up to `most`."""
    target = factor * effnet_tf.cost(base).multiply_adds
    seen, found = set(), set()
    for width in range(100, 301):
        for depth in range(100, 801):
            filters = [stage.filters for stage in base.stages]
            filters += [base.stem_filters, base.head_filters]
            key = (
                tuple(round_filters(each, width / 100) for each in filters),
                tuple(math.ceil(depth / 100 * stage.repeats) for stage in base.stages),
            )
            if key in seen:
                continue
            seen.add(key)
            for side in range(base.resolution, most + 1):
                if side % multiple_of and side != base.resolution:
                    continue
                row = dataclasses.replace(
                    base,
                    width_coefficient=width / 100,
                    depth_coefficient=depth / 100,
                    resolution=side,
                )
                if abs(effnet_tf.cost(row).multiply_adds - target) <= tolerance * target:
                    found.add(integers(row))
    return found


@pytest.mark.parametrize("factor, tolerance, multiple_of", [(2.5, 0.2, 1), (1.8, 0.3, 2)])
def test_all_are_found_and_each_once(factor, tolerance, multiple_of):
    found = enumerate_candidates(TWO, factor, tolerance, multiple_of=multiple_of)
    shapes = [integers(each.variant) for each in found]
    assert len(set(shapes)) == len(shapes) > 5
    assert set(shapes) == by_trying(TWO, factor, tolerance, multiple_of)


def test_b0_in_steps_of_32_pixels():
    found = enumerate_candidates("b0", 2.0, 0.03, multiple_of=32)
    target = 2 * effnet_tf.cost("b0").multiply_adds
    assert len({integers(each.variant) for each in found}) == len(found) > 20
    for each in found:
        exact = effnet_tf.cost(each.variant)
        assert (exact.multiply_adds, exact.params) == (each.multiply_adds, each.params)
        assert abs(exact.multiply_adds / target - 1) <= 0.03
        assert each.variant.resolution % 32 == 0 and min(each.depth, each.width) >= 1
    assert len({each.name for each in found}) == len(found)


def test_different_factors_of_one_network_are_one_candidate_with_the_nearest_ones():
    doubled = dataclasses.replace(TWO, stages=TWO.stages[1:], head_filters=16)
    found = enumerate_candidates(doubled, 2.5, 0.2)
    wide = [each for each in found if each.axes == ("width",)]
    # 8, 16 and 16 filters become 16, 32 and 32 at 1.9 as at 2.1: that is 2.
    assert 2.0 in [each.width for each in wide]
    assert all(each.depth == each.resolution == 1.0 for each in wide)
    deep = [each for each in found if each.axes == ("depth",)]
    assert all(each.width == 1.0 and (2 * each.depth) % 1 == 0 for each in deep)


def test_axes_say_what_differs():
    found = enumerate_candidates(TWO, 2.0, 0.1)
    own = integers(TWO)
    for each in found:
        assert set(each.axes) <= set(AXES) and each.axes
        shapes, side = integers(each.variant)
        assert ("resolution" in each.axes) == (side != own[1])
        assert ("depth" in each.axes) == (len(shapes) != len(own[0]))


def test_coefficients_are_those_of_a_doubling():
    four = enumerate_candidates(TWO, 4.0, 0.05)[0]
    assert four.coefficients(4.0) == pytest.approx(
        (four.depth**0.5, four.width**0.5, four.resolution**0.5)
    )
    assert four.coefficients(2.0) == (four.depth, four.width, four.resolution)


def test_no_side_is_larger_than_wanted():
    found = enumerate_candidates(TWO, 4.0, 0.1, most_pixels=6)
    assert {each.variant.resolution for each in found} <= {4, 5, 6}
    assert len(found) < len(enumerate_candidates(TWO, 4.0, 0.1))


def test_a_sample_keeps_the_single_axes():
    found = enumerate_candidates("b0", 2.0, 0.03, multiple_of=32)
    few = sample(found, 10)
    assert len(few) == 10 and few == sample(found, 10) != sample(found, 10, seed=1)
    single = [each for each in found if len(each.axes) == 1]
    assert 0 < len(single) < 10 and set(map(str, single)) <= set(map(str, few))
    assert sample(few, 20) == few


def test_the_base_is_no_candidate_of_a_factor_near_1():
    with pytest.raises(effnet_tf.InputError, match="costs 1.01 times as much within 3 %"):
        enumerate_candidates(TWO, 1.01, 0.03)
    assert all(each.axes for each in enumerate_candidates("b0", 1.01, 0.03))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(factor=1.0), "factor is 1.0; it must be above 1"),
        (dict(tolerance=0.0), "tolerance is 0.0; it must be between 0 and 1"),
        (dict(tolerance=1e-6), "No network of 'few' costs 2 times .* within 0.0001 %: use"),
        (dict(multiple_of=0), "multiple_of is 0"),
        (dict(base="b33"), "no variant 'b33'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(effnet_tf.InputError, match=message):
        enumerate_candidates(**dict(base=TWO, factor=2.0, tolerance=0.03) | arguments)
