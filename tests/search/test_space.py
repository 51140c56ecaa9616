"""search/space.py: which networks there are, each once, and nothing else."""

import dataclasses
import itertools
import json
import random

import pytest

from effnet_tf import InputError
from effnet_tf.search.space import Choices, Space
from effnet_tf.variants import VARIANTS, Stage, Variant, cost, resolve

TINY = Variant(
    "tiny",
    1.0,
    1.0,
    16,
    0.0,
    stem_filters=16,
    head_filters=32,
    stages=(Stage(16, 1, 3, 1, 1, 16), Stage(32, 2, 5, 2, 6, 16)),
)
FRAMES = ("b0", "b3", "lite1", "edgetpu-s", "mobilenet_v1", "mobilenet_v3_large")


def drawn(space, seed):
    """A spec by chance."""
    choice = random.Random(seed).choice
    return space.spec({name: choice(values) for name, values in space.options().items()})


def all_specs(space):
    """The spec of every combination of choices."""
    options = space.options()
    for values in itertools.product(*options.values()):
        yield space.spec(dict(zip(options, values)))


def network_of(variant):
    """All that makes a network, but its name."""
    return dataclasses.replace(resolve(variant), name="")


@pytest.mark.parametrize("name", FRAMES)
def test_the_frame_is_one_of_its_networks(name):
    space = Space(name)
    assert network_of(space.variant(space.spec({}))) == network_of(VARIANTS[name])


def test_every_choice_of_the_issue_is_there():
    options = Space("b0").options()
    assert set(options["stage4_kind"]) == {"conv", "separable", "mbconv"}
    assert set(options["stage4_kernel_size"]) == {3, 5}
    assert set(options["stage4_se_ratio"]) == {0.0, 0.25}
    assert set(options["stage4_skip"]) == {True, False}
    assert set(options["stage4_filters"]) == {0.75, 1.0, 1.25}
    assert set(options["stage4_layers"]) == {-1, 0, 1}
    assert set(options["stage4_expand_ratio"]) == {3, 6}
    assert set(options["stage1_expand_ratio"]) == {1, 3, 6}  # the base's own, too
    assert set(options["stage1_layers"]) == {0, 1}  # not none


def test_the_count_is_that_of_different_networks():
    choices = Choices(kind=("conv",), kernel_size=(), layers=(-1,), expand_ratio=(3,))
    space = Space(TINY, choices)
    specs = {json.dumps(spec, sort_keys=True): spec for spec in all_specs(space)}
    networks = {network_of(space.variant(spec)) for spec in specs.values()}
    assert space.size() == len(specs) == len(networks) > 300


def test_what_rounds_to_the_same_filters_is_one_choice():
    narrow = dataclasses.replace(TINY, stages=(Stage(8, 1, 3, 1, 1, 16), Stage(16, 1, 3, 2, 6, 8)))
    options = Space(narrow).options()
    assert options["stage1_filters"] == (1.0, 1.25)  # 6 is rounded to 8 again, 10 to 16
    assert "stage1_filters" not in Space(narrow, Choices(filters=(0.75, 0.9))).options()


def test_what_makes_no_difference_is_not_in_the_spec():
    space = Space("b0")
    spec = space.spec({"stage2_kind": "conv", "stage2_se_ratio": 0.25, "stage1_kind": "separable"})
    assert spec[1] == {"kind": "conv", "kernel_size": 3, "filters": 1.0, "layers": 0, "skip": True}
    # One block of other filters than its input's: there is nothing to skip.
    assert "skip" not in spec[0] and "expand_ratio" not in spec[0]


@pytest.mark.parametrize("name", FRAMES)
def test_every_network_is_one(name):
    space = Space(name)
    for seed in range(50):
        spec = json.loads(json.dumps(drawn(space, seed)))
        variant = space.variant(spec, "found")
        assert variant.name == "found" and cost(variant).multiply_adds > 0
        for row, stage in zip(spec, variant.stages):
            assert stage.fused == (row["kind"] == "fused")
            assert stage.se_ratio == row.get("se_ratio", 0.0)
            assert stage.kernel_size == row["kernel_size"]


def test_a_chosen_stage_is_what_it_says():
    space = Space("b0")
    chosen = {"stage3_kind": "separable", "stage3_filters": 1.25, "stage3_layers": 1}
    found = resolve(space.variant(space.spec({**chosen, "stage3_skip": False})))
    blocks = [block for block in found.blocks if block.stage == 3]
    assert [(block.kind, block.filters, block.skip) for block in blocks] == (
        [("separable", 48, False)] * 3  # 40 * 1.25 = 50, a multiple of 8 is 48
    )
    following = next(block for block in found.blocks if block.stage == 4)
    assert following.input_filters == 48 and following.expanded_filters == 6 * 48


def test_a_found_network_can_be_scaled():
    space = Space("b0")
    found = space.variant(drawn(space, 3))
    wide = dataclasses.replace(found, width_coefficient=2.0)
    assert cost(wide).multiply_adds > 3 * cost(found).multiply_adds


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda spec: spec.pop(), "is a list of 2 stages"),
        (lambda spec: spec[0].update(kernel_size=7), "Stage 1 of the spec has kernel_size 7; in"),
        (lambda spec: spec[0].update(kernel=3), "Stage 1 of the spec has no choice 'kernel'"),
        (lambda spec: spec[1].pop("layers"), "Stage 2 of the spec has kind, "),
        (lambda spec: spec[1].update(kind="conv"), "it must have kind, kernel_size, filters"),
        (lambda spec: spec[1].pop("kind"), "Stage 2 of the spec has no kind"),
        (lambda spec: spec.__setitem__(0, 3), "Stage 1 of the spec must be an object"),
    ],
)
def test_what_is_no_spec_is_refused(change, said):
    space = Space(TINY)
    spec = space.spec({})
    change(spec)
    with pytest.raises(InputError, match=said):
        space.variant(spec)


def test_a_frame_of_other_blocks_is_refused():
    odd = dataclasses.replace(TINY, stages=(Stage(16, 1, 3, 1, 1, 16, kind="bottleneck"),))
    with pytest.raises(InputError, match="'tiny' has blocks of the kind 'bottleneck'"):
        Space(odd)
