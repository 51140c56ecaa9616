"""How good are scores where an image may have several names, and from which score on is one given?

Plain numpy, of training's evaluation and of `evaluate` alike: (N, classes) of what is there and of
scores in [0, 1].
"""

import numpy as np

HALF = 0.5  # the threshold of classes for which none was chosen


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Returns the sigmoid of logits (N, classes), float64, where few are so large as to be equal.

    Training and `evaluate` must rank by the same numbers.
    """
    logits = np.asarray(logits, "float64")
    small = np.exp(-np.abs(logits))  # nothing overflows, and nothing small is rounded away
    return np.where(logits >= 0, 1, small) / (1 + small)


def average_precision(present: np.ndarray, scores: np.ndarray) -> float:
    """Returns the average precision of one class: sum of precision x gain in recall.

    Over all distinct scores, without interpolation, as scikit-learn's `average_precision_score`.

    Args:
        present: (N,) bool, whether an image has the name.
        scores: (N,) float.

    Returns:
        A number in [0, 1]; NaN where no image has the name.
    """
    if not present.any():
        return float("nan")
    accepted, right, _ = _by_score(present, scores)
    gained = np.diff(right, prepend=0) / present.sum()
    return float((gained * right / accepted).sum())


def _by_score(present, scores):
    """For each distinct score from the highest on: how many have at least it, and are right."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    lasts = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of equal scores
    return lasts + 1, np.cumsum(present[order])[lasts], ranked[lasts]


def average_precisions(present: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns the average precision of each class, (classes,) float64; of (N, classes) each."""
    return np.array([average_precision(*pair) for pair in zip(present.T, scores.T)])


def macro(precisions: np.ndarray) -> float:
    """Returns mAP: the mean over the classes that have images; 0 if none has any."""
    there = precisions[~np.isnan(precisions)]
    if not len(there):
        return 0.0
    return float(there.mean())


def micro(present: np.ndarray, scores: np.ndarray) -> float:
    """Returns the average precision of all names of all images in one ranking; 0 without any."""
    return float(np.nan_to_num(average_precision(present.ravel(), scores.ravel())))


def best_thresholds(present: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns for each class the threshold of the best F1, (classes,) float64 in [0, 1].

    Half-way to the next lower score; of equally good ones the highest; `HALF` for a class
    without images.

    Args:
        present: (N, classes) bool.
        scores: (N, classes) in [0, 1]; a name is given from its threshold on.
    """
    return np.array([_best_threshold(*pair) for pair in zip(present.T, scores.T)], "float64")


def _best_threshold(present, scores):
    if not present.any():
        return HALF
    accepted, right, lowest = _by_score(present, scores)
    best = int(np.argmax(2 * right / (accepted + present.sum())))
    below = np.append(lowest, 0.0)[best + 1]
    return (float(lowest[best]) + float(below)) / 2
