"""stages.py: the published stages, to the pixel, and which of them a step belongs to."""

import dataclasses

import numpy as np
import pytest

from effnet_tf.errors import InputError
from effnet_tf.recipes import Recipe, stages

# google/automl efficientnetv2, effnetv2_configs.py and main.py: the size and magnitude of training,
# the alpha of both mixup and cutmix; and what main.py makes of them in its four stages.
PUBLISHED = {
    "b0, b1": ((192, 0, 0), (144, 160, 176, 192), None, (0, 0, 0, 0)),
    "b2": ((208, 0, 0), (148, 168, 188, 208), None, (0, 0, 0, 0)),
    "b3": ((240, 0, 0), (156, 184, 212, 240), None, (0, 0, 0, 0)),
    "s": ((300, 10, 0), (171, 214, 257, 300), (5, 20 / 3, 25 / 3, 10), (0, 0, 0, 0)),
    "m": ((384, 15, 0.2), (192, 256, 320, 384), (5, 25 / 3, 35 / 3, 15), (0, 1 / 15, 2 / 15, 0.2)),
    "l, xl": ((384, 20, 0.5), (192, 256, 320, 384), (5, 10, 15, 20), (0, 1 / 6, 1 / 3, 0.5)),
}
STEPS = 1_281_167 / 4096  # of an epoch


def progressive(**changes):
    return Recipe(**{"progressive": True, "size_multiple": 1, **changes})


@pytest.mark.parametrize("name", PUBLISHED)
def test_stages_are_the_published_ones(name):
    (size, magnitude, alpha), sizes, magnitudes, alphas = PUBLISHED[name]
    recipe = progressive(
        train_image_size=size,
        augment="randaugment",
        randaugment_magnitude=magnitude,
        mixup_alpha=alpha,
        cutmix_alpha=alpha,
    )
    found = stages.of_run(recipe, STEPS)
    assert tuple(stage.image_size for stage in found) == sizes
    for stage, expected in zip(found, alphas):
        assert stage.recipe.mixup_alpha == stage.recipe.cutmix_alpha == pytest.approx(expected)
        # The line that would let it grow is commented out in main.py.
        assert stage.recipe.dropout_rate == recipe.dropout_rate
    if magnitudes:
        assert [stage.recipe.randaugment_magnitude for stage in found] == pytest.approx(magnitudes)


def test_the_paper_lets_dropout_grow():
    found = stages.of_run(progressive(start_dropout_rate=0.1, dropout_rate=0.4), STEPS)
    np.testing.assert_allclose([s.recipe.dropout_rate for s in found], [0.1, 0.2, 0.3, 0.4])
    # Up to the variant's own, if the recipe has none.
    own = stages.of_run(progressive(start_dropout_rate=0.1), STEPS)
    assert own[-1].recipe.dropout_rate == 0.2


class TestWhen:
    def test_stages_are_quarters_of_the_run(self):
        found = stages.of_run(progressive(), STEPS)
        total = round(350 * STEPS)
        assert [stage.first_step for stage in found] == [
            round(quarter * 350 * STEPS / 4) for quarter in range(4)
        ]
        assert [stage.end for stage in found[:-1]] == [stage.first_step for stage in found[1:]]
        assert found[-1].end == total
        assert [(stage.number, stage.count) for stage in found] == [(n, 4) for n in (1, 2, 3, 4)]

    def test_a_step_is_in_one_of_them(self):
        found = stages.of_run(progressive(epochs=8, size_stages=3), 2.5)
        assert [stages.at(found, step).number for step in range(21)] == (
            [1] * 7 + [2] * 6 + [3] * 8  # step 20 is that after the last
        )

    def test_a_run_with_fewer_steps_leaves_some_out(self):
        found = stages.of_run(progressive(epochs=1), 2.0)
        assert [stages.at(found, step).number for step in range(3)] == [2, 3, 4]

    def test_those_of_an_extension_begin_anew(self):
        found = stages.of_run(progressive(epochs=8, extended_at=10), 2.5)
        assert [stage.first_step for stage in found] == [10, 12, 15, 18]
        assert stages.at(found, 10).number == 1

    def test_what_is_left_grows_with_the_pixels(self):
        found = stages.of_run(progressive(train_image_size=256, epochs=4), 10.0)
        assert [stage.image_size for stage in found] == [160, 192, 224, 256]
        steps = 5 * 160**2 + 10 * (192**2 + 224**2 + 256**2)
        assert stages.work_left(found, 5, 160) == pytest.approx(steps / 160**2)
        assert stages.work_left(found, 40, 256) == 0


class TestSizes:
    def sizes(self, **changes):
        return [stage.image_size for stage in stages.of_run(Recipe(**changes), STEPS)]

    def test_without_stages_there_is_one(self):
        assert self.sizes() == [224] and self.sizes(train_image_size=160) == [160]

    def test_a_start_alone_lets_only_them_grow(self):
        """As runs from before have it: to multiples of 16."""
        recipe = Recipe(start_image_size=100, mixup_alpha=0.2)
        found = stages.of_run(recipe, STEPS)
        assert [stage.image_size for stage in found] == [96, 144, 176, 224]
        assert {stage.recipe for stage in found} == {recipe}

    def test_of_any_network(self):
        assert self.sizes(progressive=True) == [160, 176, 192, 224]  # of 152, 176, 200, 224
        assert self.sizes(progressive=True, variant="b3", size_stages=2) == [208, 300]
        assert self.sizes(progressive=True, start_image_size=128) == [128, 160, 192, 224]

    def test_small_ones_grow_too(self):
        assert self.sizes(progressive=True, image_size=96) == [64, 64, 80, 96]  # of 60, 72, 84
        assert self.sizes(progressive=True, image_size=40, size_multiple=1) == [32, 32, 35, 40]

    def test_none_is_larger_than_the_last(self):
        assert self.sizes(start_image_size=201, image_size=202, size_stages=2) == [202, 202]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (dict(start_image_size=300), "start_image_size is 300, and must be at most the 224 pixels"),
        (dict(train_image_size=16), "An input of 16 pixels is too small for training 'b0'"),
        (dict(start_dropout_rate=0.5), "must be at most the 0.2 of the last stage"),
        (dict(start_dropout_rate=0.1, progressive=False), "alone: give --progressive, too"),
    ],
)
def test_what_cannot_be_is_a_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        stages.of_run(progressive(**changes), STEPS)


def test_a_magnitude_below_the_first_is_constant():
    recipe = progressive(augment="randaugment", randaugment_magnitude=3.0)
    assert {s.recipe.randaugment_magnitude for s in stages.of_run(recipe, STEPS)} == {3.0}


def test_a_stage_says_what_is_special_in_it():
    recipe = progressive(
        augment="randaugment",
        mixup_alpha=0.2,
        cutmix_alpha=0.5,
        start_dropout_rate=0.1,
        dropout_rate=0.3,
    )
    first, *_, last = stages.of_run(recipe, STEPS)
    assert str(first) == "152 pixels, RandAugment 5, dropout 0.1"
    assert str(last) == "224 pixels, RandAugment 10, mixup 0.2, cutmix 0.5, dropout 0.3"
    assert last.metrics() == {"stage": 4, "train_image_size": 224}
    plain = dataclasses.replace(recipe, progressive=False, start_dropout_rate=None)
    assert stages.of_run(plain, STEPS)[0].metrics() == {}
