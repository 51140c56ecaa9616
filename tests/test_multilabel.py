"""multilabel.py: rankings of names, and the thresholds from which on they are given."""

import numpy as np
import pytest

from effnet_tf import multilabel

RANDOM = np.random.default_rng(0)


def brute_force(present, scores):
    """The definition: over all distinct scores, the gain in recall times the precision."""
    total, before = 0.0, 0.0
    for score in sorted(set(scores.tolist()), reverse=True):
        given = scores >= score
        right = (given & present).sum()
        total += (right / present.sum() - before) * right / given.sum()
        before = right / present.sum()
    return total


@pytest.mark.parametrize("steps", [3, 1000], ids=["many equal scores", "few"])
def test_average_precision_is_that_of_the_definition_and_of_scikit_learn(steps):
    present = RANDOM.random((40, 5)) < 0.3
    scores = RANDOM.integers(0, steps, (40, 5)) / steps
    found = multilabel.average_precisions(present, scores)
    expected = [brute_force(*pair) for pair in zip(present.T, scores.T)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    sklearn = pytest.importorskip("sklearn.metrics").average_precision_score
    np.testing.assert_allclose(found, sklearn(present, scores, average=None))
    assert multilabel.macro(found) == pytest.approx(sklearn(present, scores))
    assert multilabel.micro(present, scores) == pytest.approx(
        sklearn(present, scores, average="micro")
    )


def test_a_class_without_images_is_no_part_of_the_mean():
    present = np.array([[True, False], [False, False]])
    found = multilabel.average_precisions(present, np.array([[0.9, 0.9], [0.1, 0.1]]))
    assert found[0] == 1 and np.isnan(found[1]) and multilabel.macro(found) == 1
    assert (
        multilabel.macro(found[1:]) == multilabel.micro(present[:, 1:], present[:, 1:] * 0.5) == 0
    )


def f1(present, given):
    return 2 * (present & given).sum() / (present.sum() + given.sum())


def test_no_threshold_has_a_better_f1():
    present = RANDOM.random((50, 4)) < 0.3
    scores = RANDOM.integers(1, 21, (50, 4)) / 20
    for number, threshold in enumerate(multilabel.best_thresholds(present, scores)):
        one, own = present[:, number], scores[:, number]
        assert threshold not in own  # it lies between two scores
        best = max(f1(one, own >= each) for each in np.unique(own))
        assert f1(one, own >= threshold) == best


def test_thresholds_at_the_ends():
    present = np.array([[True, False, True], [True, False, False]])
    scores = np.array([[0.8, 0.7, 0.6], [0.4, 0.2, 0.6]])
    found = multilabel.best_thresholds(present, scores)
    np.testing.assert_allclose(found, [0.2, 0.5, 0.3])
