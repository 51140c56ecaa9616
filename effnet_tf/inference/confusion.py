"""How good are the answers about each class, and which is taken for which?

Plain numpy, of what `metrics.Answers` keeps of each image.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from effnet_tf.inference.metrics import Answers


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """How good the answers are about one class.

    Attributes:
        number: of the class in the network.
        images: that are of it, and can be used.
        answered: images whose best class it is.
        right: images that are both.
    """

    number: int
    images: int
    answered: int
    right: int

    @property
    def precision(self) -> float:
        """Share of right ones among the answers; NaN where nothing was answered so."""
        return _ratio(self.right, self.answered)

    @property
    def recall(self) -> float:
        """Share of its images that are right; NaN where it has none."""
        return _ratio(self.right, self.images)

    @property
    def f1(self) -> float:
        """Harmonic mean of both: 2 right / (images + answered)."""
        return _ratio(2 * self.right, self.images + self.answered)


def _ratio(part, whole):
    if not whole:
        return float("nan")
    return part / whole


def per_class(answers: Answers) -> list[ClassRow]:
    """Returns a row for each class that has images or was answered, by its number."""
    usable = answers.usable
    labels, best = answers.labels[usable], answers.best[usable, 0]
    images = np.bincount(labels, minlength=answers.classes)
    answered = np.bincount(best, minlength=answers.classes)
    right = np.bincount(labels[labels == best], minlength=answers.classes)
    rows = zip(range(answers.classes), images.tolist(), answered.tolist(), right.tolist())
    return [ClassRow(*row) for row in rows if row[1] or row[2]]


def confusions(answers: Answers, most: int | None = None) -> list[tuple[int, int, int]]:
    """Returns (class, answer, images) of wrong answers, the most frequent first."""
    usable = answers.usable
    labels, best = answers.labels[usable], answers.best[usable, 0]
    wrong = labels != best
    pairs, counts = np.unique(
        np.stack([labels[wrong], best[wrong]], -1).reshape(-1, 2), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]
    return [(*pairs[each].tolist(), int(counts[each])) for each in order]


def matrix(answers: Answers, numbers: Sequence[int]) -> np.ndarray:
    """Returns the confusion matrix of some classes: (n, n) int64, [class, answer].

    Args:
        answers: of all classes; images and answers of others are left out.
        numbers: of the classes.
    """
    place = np.full(answers.classes, -1)
    place[list(numbers)] = np.arange(len(numbers))
    usable = answers.usable
    rows, columns = place[answers.labels[usable]], place[answers.best[usable, 0]]
    inside = (rows >= 0) & (columns >= 0)
    found = np.zeros((len(numbers), len(numbers)), "int64")
    np.add.at(found, (rows[inside], columns[inside]), 1)
    return found
