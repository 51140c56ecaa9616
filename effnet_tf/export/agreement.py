"""How often does a file say what its model says, and how often is it right?

Of all images, and apart of those that the model is sure of and of the others: where it hesitates
between two classes, the least noise makes the other one the best, which seldom harms anybody.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_tf import intervals
from effnet_tf.intervals import Estimate

SURE = 0.5  # probability of the best class, above which no other class comes near by chance
Answer = dict[str, np.ndarray]  # scores and logits, (N, ..., C)


@dataclasses.dataclass(frozen=True)
class Group:
    """How a file fares on some of the images.

    Attributes:
        name: "all"; "sure", those to whose best class the Keras model gives a probability above
            `SURE`; or "unsure", the others.
        images: how many.
        agreement: share of them with the same best class, or with the same names where an image
            may have several; with Wilson's 95 % interval, as the others.
        labelled: how many of them have a known class.
        accuracy: share of these that the file classifies right; None without labels.
        model_accuracy: share that the Keras model classifies right.
        lost: how many only the model classifies right.
        gained: how many only the file classifies right.
    """

    name: str
    images: int
    agreement: Estimate
    labelled: int
    accuracy: Estimate | None
    model_accuracy: Estimate | None
    lost: int
    gained: int


@dataclasses.dataclass(frozen=True)
class _Marks:
    """What holds of each image, (N,) bool."""

    same: np.ndarray  # the file says what the model says
    known: np.ndarray  # somebody knows what is right
    right: np.ndarray  # the file is
    model_right: np.ndarray

    def group(self, name, chosen):
        """Returns the `Group` of the chosen images, (N,) bool."""
        known = self.known & chosen
        count = int(known.sum())
        right, model_right = self.right[known], self.model_right[known]
        accuracies = None, None
        if count:
            accuracies = tuple(_share(each) for each in (right, model_right))
        return Group(
            name,
            int(chosen.sum()),
            _share(self.same[chosen]),
            count,
            *accuracies,
            lost=int((model_right & ~right).sum()),
            gained=int((right & ~model_right).sum()),
        )


def _share(marks):
    return intervals.share(int(marks.sum()), len(marks))


def compared(
    exact: Answer, answer: Answer, labels: np.ndarray | None, thresholds: Sequence[float] | None
) -> dict[str, Any]:
    """Returns the fields of a `Report` that compare a file with its model.

    Args:
        exact: what the Keras model gives: scores and logits, (N, C).
        answer: what the file gives.
        labels: (N,) integers, -1 where unknown; (N, classes) bool of several names; or None.
        thresholds: by class, where an image may have several names; else None.
    """
    found = {
        "largest_difference": float(np.abs(exact["scores"] - answer["scores"]).max()),
        "top1_agreement": shared_best(exact["logits"], answer["logits"], 1),
        "top5_agreement": shared_best(exact["logits"], answer["logits"], 5),
    }
    if thresholds is None:
        marks = _of_one_class(exact["logits"], answer["logits"], labels)
        sure = _sureness(exact["logits"]) > SURE
        groups = [marks.group("sure", sure), marks.group("unsure", ~sure)]
    else:
        marks, groups = _of_names(exact["scores"], answer["scores"], labels, thresholds), []
    whole = marks.group("all", np.ones(len(marks.same), bool))
    if thresholds is not None:
        found["names_agreement"] = whole.agreement.value
    return found | {
        "accuracy": _value(whole.accuracy),
        "model_accuracy": _value(whole.model_accuracy),
        "groups": [whole, *(group for group in groups if group.images)],
    }


def _value(estimate):
    if estimate is None:
        return None
    return estimate.value


def _of_one_class(exact, other, labels):
    """Returns the `_Marks` where an image has one class, of logits (N, C)."""
    ours, theirs = (_classes(logits).argmax(-1) for logits in (exact, other))
    known = np.full(len(ours), -1)
    if labels is not None:
        known = np.asarray(labels)
    return _Marks(ours == theirs, known >= 0, theirs == known, ours == known)


def _of_names(exact, other, labels, thresholds):
    """Returns the `_Marks` where an image may have several names, of scores (N, C)."""
    ours, theirs = (scores >= np.asarray(thresholds) for scores in (exact, other))
    nothing = np.zeros(len(ours), bool)
    same = (theirs == ours).all(-1)
    if labels is None or np.ndim(labels) != 2:
        return _Marks(same, nothing, nothing, nothing)
    right = [(each == labels).all(-1) for each in (theirs, ours)]
    return _Marks(same, ~nothing, *right)


def _sureness(logits):
    """Returns the probability of each image's best class, (N,)."""
    logits = _classes(np.asarray(logits, "float64"))
    return 1 / np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)


def _classes(logits):
    """Returns (N, 2) logits for (N, 1), those of a sigmoid, and others as they are."""
    if logits.shape[-1] == 1:
        return np.pad(logits, ((0, 0), (1, 0)))
    return logits


def shared_best(exact: np.ndarray, other: np.ndarray, count: int) -> float:
    """Returns the mean share of each image's `count` best classes that are the same.

    Args:
        exact: (N, C) logits; (N, 1) of a sigmoid are those of two classes.
        other: the same of another network.
        count: of the best classes; all, where there are fewer.
    """
    exact, other = _classes(exact), _classes(other)
    count = min(count, exact.shape[-1])
    best = [np.argsort(-scores, axis=-1, kind="stable")[:, :count] for scores in (exact, other)]
    return float(np.mean([len(np.intersect1d(*pair)) / count for pair in zip(*best)]))
