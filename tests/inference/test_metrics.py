"""metrics.py and confusion.py against scikit-learn, and against what is known of intervals."""

import numpy as np
import pytest
import sklearn.metrics

from effnet_tf import intervals
from effnet_tf.inference import confusion, metrics
from effnet_tf.inference.metrics import BAD, UNKNOWN

CLASSES = 7


@pytest.fixture(scope="module")
def sample():
    """Labels, probabilities (some classes are hard, one is never there), and the answers."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES - 1, 400)
    logits = random.normal(size=(400, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    return labels, metrics.probabilities(logits), metrics.answered(labels, metrics.softmax(logits))


@pytest.mark.filterwarnings("ignore::UserWarning")  # a class is never there
def test_top1_top5_and_loss(sample):
    labels, chances, answers = sample
    found = metrics.summary(answers)
    known = range(CLASSES)
    assert found.images == 400 and found.bad == found.unknown == 0
    assert found.top1.value == sklearn.metrics.accuracy_score(labels, chances.argmax(-1))
    assert found.top5.value == sklearn.metrics.top_k_accuracy_score(
        labels, chances, k=5, labels=known
    )
    assert found.loss.value == pytest.approx(
        sklearn.metrics.log_loss(labels, chances, labels=known)
    )
    assert found.class_accuracy.value == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, chances.argmax(-1))
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_classes_and_confusions(sample):
    labels, chances, answers = sample
    best = chances.argmax(-1)
    wanted = sklearn.metrics.precision_recall_fscore_support(labels, best, labels=range(CLASSES))
    for row in confusion.per_class(answers):
        found = (row.precision, row.recall, row.f1, row.images)
        expected = [column[row.number] for column in wanted]
        if not row.images:
            assert np.isnan(row.recall)
            found, expected = found[:1] + found[2:], expected[:1] + expected[2:]
        np.testing.assert_allclose(found, expected)
    matrix = sklearn.metrics.confusion_matrix(labels, best, labels=range(CLASSES))
    np.testing.assert_array_equal(confusion.matrix(answers, range(CLASSES)), matrix)
    np.testing.assert_array_equal(confusion.matrix(answers, [4, 1]), matrix[[4, 1]][:, [4, 1]])
    ranked = confusion.confusions(answers)
    np.fill_diagonal(matrix, 0)
    assert sum(count for _, _, count in ranked) == matrix.sum()
    assert ranked[0][2] == matrix.max() and all(matrix[row[:2]] == row[2] for row in ranked)
    assert confusion.confusions(answers, 3) == ranked[:3]


def test_calibration(sample):
    labels, chances, answers = sample
    bins = metrics.calibration(chances.max(-1), chances.argmax(-1) == labels)
    assert bins[:, 0].sum() == 400 and bins[:, 2].sum() == (chances.argmax(-1) == labels).sum()
    error = sum(
        abs(count_right - sure) / 400 for count, sure, count_right in bins.tolist() if count
    )
    assert metrics.summary(answers).calibration_error.value == pytest.approx(error)
    # Answers that are always right and quite sure are calibrated; such that are always wrong not.
    sure = np.ones(50)
    assert metrics.calibration_error(sure, sure == 1).value == 0
    assert metrics.calibration_error(sure, sure == 0).value == 1


def test_intervals(sample):
    """Each holds its number; Wilson's is that of the textbooks, also where all are right."""
    found = metrics.summary(sample[2])
    for name in ("top1", "top5", "loss", "class_accuracy", "calibration_error"):
        estimate = getattr(found, name)
        assert estimate.low <= estimate.value <= estimate.high and estimate.low < estimate.high, (
            name
        )
    eight_of_ten = intervals.share(8, 10)
    assert (eight_of_ten.low, eight_of_ten.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert intervals.share(10, 10).low == pytest.approx(0.7225, abs=1e-4)
    assert intervals.share(10, 10).high == 1 and intervals.share(0, 10).low == 0


def test_an_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        labels = random.integers(0, 3, 60)
        right = random.random(60) < np.array([0.9, 0.6, 0.3])[labels]
        estimate = metrics.class_accuracy(labels, right)
        covered += estimate.low <= 0.6 <= estimate.high
    assert 180 <= covered <= 198


def test_bad_and_unknown_images():
    """Bad ones are wrong in top-1 and top-5, as in training; unknown ones count nowhere."""
    labels = np.array([0, 1, BAD, UNKNOWN])
    scores = np.eye(6)[[0, 0, 0, 5]]
    found = metrics.summary(metrics.answered(labels, scores))
    assert (found.images, found.bad, found.unknown) == (3, 1, 1)
    assert found.top1.value == pytest.approx(1 / 3) and found.top5.value == pytest.approx(2 / 3)
    assert found.class_accuracy.value == 0.5
    rows = confusion.per_class(metrics.answered(labels, scores))
    assert [(row.number, row.images, row.answered, row.right) for row in rows] == [
        (0, 1, 2, 1),
        (1, 1, 0, 0),
    ]


def test_nothing_at_all_is_no_number():
    found = metrics.summary(metrics.answered(np.array([UNKNOWN]), np.full((1, 3), 1 / 3)))
    assert found.images == 0 and np.isnan([found.top1.value, found.loss.value]).all()
    assert confusion.confusions(metrics.answered(np.array([0]), np.eye(3)[:1])) == []


def test_probabilities_and_logits():
    logits = np.array([[2.0, -1.0, 0.5], [1000.0, 0.0, 0.0]])
    chances = metrics.probabilities(logits)
    np.testing.assert_allclose(chances.sum(-1), 1)
    np.testing.assert_allclose(metrics.probabilities(chances), chances)
    rounded = np.round(chances * 255) / 256  # as a quantised file gives them
    np.testing.assert_allclose(metrics.probabilities(rounded), chances, atol=0.01)
    low = metrics.answered(np.array([1]), chances[1:])
    assert np.isfinite(low.losses).all()  # of a probability of 0


def test_batches_are_joined(sample):
    labels, chances, whole = sample
    parts = [
        metrics.answered(labels[start : start + 7], chances[start : start + 7])
        for start in range(0, 400, 7)
    ]
    joined = metrics.joined(parts)
    for name in ("labels", "best", "sureness", "losses"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
