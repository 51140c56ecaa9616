"""How good are the answers to images whose classes are known?

Plain numpy. Every number is a function of what `Answers` keeps of each image: its class, the five
best classes with their probabilities, and the loss.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from effnet_tf import multilabel
from effnet_tf.intervals import Estimate, mean, share

BEST = 5  # classes kept of every image
BINS = 15  # of the calibration error: Guo et al., arXiv 1706.04599, section 2
RESAMPLES = 1000  # of the bootstrap
# Labels that are no class of the network.
BAD, UNKNOWN = -1, -2


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns the probabilities (N, classes) float64 of logits."""
    logits = np.asarray(logits, "float64")
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Returns probabilities (N, classes) float64 of what a classifier of somebody gives.

    Rows that are not negative and add up to about 1 are probabilities already, rounded by a
    quantised file perhaps; others are logits.
    """
    scores = np.asarray(scores, "float64")
    totals = scores.sum(-1, keepdims=True)
    if scores.size and scores.min() >= 0 and ((totals > 0.5) & (totals < 1.5)).all():
        return scores / totals
    return softmax(scores)


def independent(scores: np.ndarray) -> np.ndarray:
    """Returns probabilities (N, classes) float64, each for itself, of what a file gives.

    Numbers outside of [0, 1] are logits.
    """
    scores = np.asarray(scores, "float64")
    if scores.size and (scores.min() < 0 or scores.max() > 1):
        return multilabel.probabilities(scores)
    return scores


@dataclasses.dataclass(frozen=True)
class Answers:
    """What is kept of the answers to some images.

    Attributes:
        classes: of the network.
        labels: (N,) int64, the class; BAD where the image cannot be used, UNKNOWN where the
            network does not know its class.
        best: (N, k) int64, the k <= 5 best classes, the best first.
        sureness: (N, k) float64, their probabilities.
        losses: (N,) float64, -log of the class's probability in nats; NaN where there is none.
    """

    classes: int
    labels: np.ndarray
    best: np.ndarray
    sureness: np.ndarray
    losses: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """(N,) bool: whether an image can be used, and is of a class of the network."""
        return self.labels >= 0


def answered(labels: np.ndarray, chances: np.ndarray) -> Answers:
    """Returns what is kept of the probabilities for some images.

    Args:
        labels: (N,) int64, see `Answers`.
        chances: (N, classes) float64, probabilities.
    """
    classes = chances.shape[-1]
    best = np.argsort(-chances, axis=-1, kind="stable")[:, : min(BEST, classes)]
    sureness = np.take_along_axis(chances, best, -1)
    known = np.maximum(labels, 0)[:, np.newaxis]
    # The smallest number of float32: an answer of 0, as of quantised files, is no infinite loss.
    own = np.maximum(np.take_along_axis(chances, known, -1)[:, 0], np.finfo("float32").tiny)
    losses = np.where(labels >= 0, -np.log(own), np.nan)
    return Answers(classes, np.asarray(labels, "int64"), best, sureness, losses)


def joined(parts: Sequence[Answers]) -> Answers:
    """Returns the answers of several batches, at least one, as those of one."""
    return Answers(
        parts[0].classes,
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.best for part in parts]),
        np.concatenate([part.sureness for part in parts]),
        np.concatenate([part.losses for part in parts]),
    )


def hits(answers: Answers, most: int = 1) -> np.ndarray:
    """Whether the class is among the `most` best: (N,) bool; a bad image is no hit."""
    return (answers.best[:, :most] == answers.labels[:, np.newaxis]).any(-1)


# --- one number for all -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Summary:
    """The numbers of an evaluation.

    Attributes:
        images: that count: all but those of classes that the network does not know.
        bad: of them, images that cannot be used; they count as wrong, as in training.
        unknown: images of classes that the network does not know; they count nowhere.
        top1: share of images whose class is the best; the interval is Wilson's.
        top5: share of images whose class is among the five best; Wilson's, too.
        loss: mean cross-entropy of the usable images in nats; the interval is the normal one.
        class_accuracy: mean over the classes that have images of the share of each that is
            right; the interval is of a bootstrap within the classes.
        calibration_error: expected calibration error, in 15 bins of equal width; the interval
            is of a bootstrap over the images.
    """

    images: int
    bad: int
    unknown: int
    top1: Estimate
    top5: Estimate
    loss: Estimate
    class_accuracy: Estimate
    calibration_error: Estimate


def summary(answers: Answers) -> Summary:
    """Returns the numbers of an evaluation; NaN where there is no image to have them of."""
    labels = answers.labels
    counted = labels != UNKNOWN
    right, five = hits(answers)[counted], hits(answers, BEST)[counted]
    usable = answers.usable
    return Summary(
        images=int(counted.sum()),
        bad=int((labels == BAD).sum()),
        unknown=int((labels == UNKNOWN).sum()),
        top1=share(int(right.sum()), len(right)),
        top5=share(int(five.sum()), len(five)),
        loss=mean(answers.losses[usable]),
        class_accuracy=class_accuracy(labels[usable], hits(answers)[usable]),
        calibration_error=calibration_error(answers.sureness[usable, 0], hits(answers)[usable]),
    )


def class_accuracy(labels: np.ndarray, right: np.ndarray) -> Estimate:
    """Returns the mean accuracy of the classes that have images.

    Args:
        labels: (N,) int64, at least 0.
        right: (N,) bool.
    """
    counts = np.bincount(labels)
    there = counts > 0
    if not there.any():
        return Estimate(np.nan, np.nan, np.nan)
    rates = np.bincount(labels, right)[there] / counts[there]
    # Drawing the images of a class anew is drawing how many of them are right.
    random, drawn = np.random.default_rng(0), []
    for _ in range(10):  # parts, for the memory of many classes
        shape = (RESAMPLES // 10, len(rates))
        drawn.append((random.binomial(counts[there], rates, shape) / counts[there]).mean(-1))
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
    return Estimate(float(rates.mean()), float(low), float(high))


# --- calibration ------------------------------------------------------------------------------


def calibration(sureness: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns (BINS, 3) float64: images, sum of their sureness, and how many of them are right.

    Args:
        sureness: (N,) probability of the best class.
        right: (N,) whether it is the class.
    """
    bins = _bins(sureness)
    columns = [np.bincount(bins, weights, BINS) for weights in (None, sureness, right)]
    return np.stack(columns, -1)


def _bins(sureness):
    return np.minimum((sureness * BINS).astype("int64"), BINS - 1)


def calibration_error(sureness: np.ndarray, right: np.ndarray) -> Estimate:
    """Returns the expected calibration error: sum of |right - sure| over the bins, per image."""
    count = len(sureness)
    if not count:
        return Estimate(np.nan, np.nan, np.nan)
    bins, excess = _bins(sureness), right - sureness
    random, drawn = np.random.default_rng(0), []
    for _ in range(min(RESAMPLES, max(100, 10**7 // count))):
        chosen = random.integers(0, count, count)
        drawn.append(_error(bins[chosen], excess[chosen]))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(_error(bins, excess), float(low), float(high))


def _error(bins, excess):
    return float(np.abs(np.bincount(bins, excess, BINS)).sum() / len(bins))
