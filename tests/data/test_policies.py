"""policies.py: AutoAugment and RandAugment draw as the original code does."""

import collections
import functools
import math

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.data import operations, policies
from effnet_tf.data.operations import NOTHING, OPERATIONS
from effnet_tf.data.policies import POLICY_V0
from effnet_tf.errors import InputError
from tests.data.test_operations import NAMES, SIGNED, a_photo, noise, operate

DRAWS = 6000


def drawn(draw):
    """Returns the operations and arguments of DRAWS seeds, (DRAWS, steps) each."""
    seeds = tf.data.Dataset.range(DRAWS).map(lambda number: tf.stack((number, 3)))
    return next(seeds.map(draw).batch(DRAWS).as_numpy_iterator())


def assert_frequencies(observed, probabilities):
    """Each outcome's count is within five standard deviations; no other outcome occurs."""
    assert set(observed) <= {outcome for outcome, p in probabilities.items() if p > 0}
    total = sum(observed.values())
    for outcome, probability in probabilities.items():
        deviation = math.sqrt(total * probability * (1 - probability))
        assert abs(observed[outcome] - total * probability) <= 5 * deviation + 1, outcome


def assert_signs(operations, arguments):
    """Signed arguments have either sign in half of the draws, others are positive."""
    for name in NAMES:
        found = arguments[operations == NAMES.index(name)]
        negative = collections.Counter((found[found != 0] < 0).tolist())
        expected = {True: 0.5, False: 0.5} if name in SIGNED else {False: 1.0}
        if negative:
            assert_frequencies(negative, expected)


class TestDrawingRandAugment:
    @pytest.fixture(scope="class")
    def choices(self):
        return drawn(lambda seed: policies.draw_randaugment(seed, 2, 17.0))

    def test_operations_are_equally_frequent_and_independent(self, choices):
        operations, _ = choices
        assert operations.min() == 0 and operations.max() == NOTHING - 1 == 15
        for step in operations.T:
            assert_frequencies(collections.Counter(step.tolist()), dict.fromkeys(range(16), 1 / 16))
        pairs = collections.Counter(map(tuple, operations.tolist()))
        assert_frequencies(pairs, {(i, j): 1 / 256 for i in range(16) for j in range(16)})

    def test_arguments_are_the_magnitudes(self, choices):
        operations, arguments = choices
        expected = np.float32(
            [policies.argument_of(name, 17.0, policies.RANDAUGMENT) for name in NAMES]
        )
        assert (np.abs(arguments) == expected[operations]).all()

    def test_signs_are_drawn(self, choices):
        assert_signs(*choices)
        operations, arguments = choices
        signed = np.isin(operations, [NAMES.index(name) for name in SIGNED]).all(1)
        both = collections.Counter(map(tuple, (arguments[signed] < 0).tolist()))
        assert_frequencies(both, {(i, j): 1 / 4 for i in (False, True) for j in (False, True)})

    @pytest.mark.parametrize("layers", [1, 3])
    def test_draws_as_many_as_layers(self, layers):
        operations, arguments = policies.draw_randaugment((1, 2), layers, 10)
        assert operations.shape == arguments.shape == (layers,)

    @pytest.mark.parametrize("layers, magnitude", [(0, 10), (2, -1), (2, 31), (2, math.nan)])
    def test_refuses_what_is_out_of_range(self, layers, magnitude):
        with pytest.raises(InputError, match="magnitude is" if layers else "layers is"):
            policies.randaugment(tf.constant(noise(32, 32)), (1, 2), layers, magnitude)

    @pytest.mark.parametrize("magnitude", [0, 30])
    def test_bounds_of_the_magnitude_work(self, magnitude):
        for name in OPERATIONS:
            if name != "Cutout":
                argument = policies.argument_of(name, magnitude, policies.RANDAUGMENT)
                assert operate(name, noise(40, 56), argument).shape == (40, 56, 3)


class TestDrawingAutoAugment:
    @pytest.fixture(scope="class")
    def choices(self):
        return drawn(policies.draw_autoaugment)

    @staticmethod
    def outcomes(step):
        """What one step of a sub-policy draws, (operation, argument), and how probably."""
        name, probability, level = step
        argument = policies.argument_of(name, level, policies.AUTOAUGMENT)
        return {(NAMES.index(name), round(argument, 4)): probability, NOTHING: 1 - probability}

    def test_every_sub_policy_and_its_probabilities(self, choices):
        expected = collections.Counter()
        for row in POLICY_V0:
            first, second = map(self.outcomes, row)
            for one, p in first.items():
                for two, q in second.items():
                    expected[one, two] += p * q / len(POLICY_V0)
        observed = collections.Counter(
            tuple(
                NOTHING if number == NOTHING else (number, round(abs(argument), 4))
                for number, argument in zip(*steps)
            )
            for steps in zip(*(choice.tolist() for choice in choices))
        )
        assert sum(expected.values()) == pytest.approx(1)
        assert_frequencies(observed, expected)

    def test_signs_are_drawn(self, choices):
        assert_signs(*choices)


BOTH = pytest.mark.parametrize("policy", [policies.autoaugment, policies.randaugment])
SEEDS = tf.constant([(number, 7) for number in range(30)])


def distorted(policy, images, spec):
    """Distorts images in tf.data: all of them with every seed."""
    pairs = tf.data.Dataset.from_generator(
        lambda: ((image, seed) for seed in SEEDS for image in images),
        output_signature=(spec, tf.TensorSpec((2,), tf.int32)),
    )
    dataset = pairs.map(policy)
    assert dataset.element_spec == spec
    return list(dataset.as_numpy_iterator())


class TestImages:
    @BOTH
    @pytest.mark.parametrize("dtype", ["int32", "int64"])
    def test_the_seed_decides(self, policy, dtype):
        image = tf.constant(noise(33, 47))
        ours, again = (
            [policy(image, tf.cast(seed, dtype)).numpy() for seed in SEEDS] for _ in range(2)
        )
        assert np.array_equal(ours, again)
        # Some operations change nothing here, and some sub-policies skip both.
        assert len({result.tobytes() for result in ours}) > 15

    @BOTH
    def test_threads_change_nothing(self, policy):
        image = tf.constant(noise(33, 47))
        seeds = tf.data.Dataset.from_tensor_slices(tf.tile(SEEDS, (4, 1)))
        one, many = (
            [*seeds.map(lambda seed: policy(image, seed), calls).as_numpy_iterator()]
            for calls in (1, 8)
        )
        assert np.array_equal(one, many)
        assert np.array_equal(one[: len(SEEDS)], one[-len(SEEDS) :])

    @BOTH
    def test_works_under_a_strategy(self, policy, mirrored):
        image = tf.constant(noise(33, 47))
        dataset = (
            tf.data.Dataset.from_tensor_slices(SEEDS[:8])
            .map(lambda seed: policy(image, seed), tf.data.AUTOTUNE)
            .batch(4)
        )
        parts = [
            part
            for batch in mirrored.experimental_distribute_dataset(dataset)
            for part in mirrored.experimental_local_results(batch)
        ]
        assert np.array_equal(np.concatenate(parts), np.concatenate([*dataset]))

    @BOTH
    def test_sizes_may_be_unknown(self, policy):
        images = [noise(32, 32), noise(33, 47)]
        ours = distorted(policy, images, tf.TensorSpec((None, None, 3), tf.uint8))
        expected = [policy(tf.constant(image), seed).numpy() for seed in SEEDS for image in images]
        assert all(np.array_equal(*pair) for pair in zip(ours, expected, strict=True))
        assert {result.dtype for result in ours} == {np.dtype("uint8")}

    def test_known_sizes_stay_known(self):
        one = functools.partial(policies.randaugment, layers=1)
        ours = distorted(one, [noise(32, 32)], tf.TensorSpec((32, 32, 3), tf.uint8))
        assert len(ours) == len(SEEDS)

    def test_layers_and_magnitude_count(self):
        image = tf.constant(noise(33, 47))
        kinds = {
            np.stack([policies.randaugment(image, seed, *options) for seed in SEEDS[:8]]).tobytes()
            for options in ((1, 1), (1, 28), (2, 1), (2, 28))
        }
        assert len(kinds) == 4

    @pytest.mark.parametrize("name", NAMES)
    def test_numbers_choose_their_operation(self, name, monkeypatch):
        image = noise(40, 56)
        argument = policies.argument_of(name, 6, policies.RANDAUGMENT)
        draw = (tf.constant([NOTHING, NAMES.index(name)]), tf.constant([0.0, argument]))
        monkeypatch.setattr(policies, "draw_autoaugment", lambda *_: draw)
        ours = policies.autoaugment(tf.constant(image), (1, 2)).numpy()
        assert (ours != image).any()
        if name != "Cutout":
            assert (ours == operate(name, image, np.float32(argument))).all()
        else:
            assert (ours[ours != image] == operations.FILL).all()

    def test_operations_follow_each_other(self, monkeypatch):
        steps = (("Posterize", 3.0), ("Rotate", -20.0), ("Invert", 0.0))
        draw = (
            tf.constant([NAMES.index(name) for name, _ in steps]),
            tf.constant([argument for _, argument in steps]),
        )
        monkeypatch.setattr(policies, "draw_randaugment", lambda *_: draw)
        expected = noise(33, 47)
        ours = policies.randaugment(tf.constant(expected), (1, 2)).numpy()
        for name, argument in steps:
            expected = operate(name, expected, np.float32(argument))
        assert (ours == expected).all()

    def test_cutout_is_elsewhere_in_every_image_and_layer(self, monkeypatch):
        draw = (tf.fill((2,), NAMES.index("Cutout")), tf.fill((2,), 5.0))
        monkeypatch.setattr(policies, "draw_randaugment", lambda *_: draw)
        image = tf.zeros((64, 64, 3), tf.uint8)
        holes = np.stack([policies.randaugment(image, seed) for seed in SEEDS])[..., 0] > 0
        assert len({hole.tobytes() for hole in holes}) == len(SEEDS)
        assert holes.sum((1, 2)).max() == 2 * 10 * 10


class TestClean:
    @BOTH
    def test_policies_take_it(self, policy):
        photo = a_photo()
        clean, original = (
            [policy(tf.constant(photo), seed, style=style).numpy() for seed in SEEDS]
            for style in ("clean", "original")
        )
        assert np.mean([(one == two).all() for one, two in zip(clean, original)]) < 0.8
        dataset = tf.data.Dataset.from_tensor_slices(SEEDS).map(
            lambda seed: policy(tf.constant(photo), seed, style="clean")
        )
        different = [
            (one != two).mean() for one, two in zip(dataset.as_numpy_iterator(), clean, strict=True)
        ]
        assert max(different) < 0.001

    @BOTH
    def test_another_style_is_refused(self, policy):
        photo = a_photo()
        with pytest.raises(InputError, match="'new'; it must be one of original, clean"):
            policy(tf.constant(photo), (1, 2), style="new")
