"""How good are the answers to images that may have several names?

Plain numpy. A name is given from the threshold of its class on; a ranking needs none.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from effnet_tf import multilabel
from effnet_tf.intervals import Estimate, mean, share

RESAMPLES = 100  # of the bootstrap
MOST = 2_000_000  # answers, images x classes, of which a ranking is drawn anew so often: seconds


@dataclasses.dataclass(frozen=True)
class MultiAnswers:
    """What is kept of the answers: of the classes that both the network and the images know.

    Attributes:
        names: of the classes.
        present: (N, classes) bool, what is there; nothing in an image that cannot be used.
        chances: (N, classes) float64, probabilities.
        usable: (N,) bool, whether an image can be used.
        thresholds: (classes,) float64.
    """

    names: tuple[str, ...]
    present: np.ndarray
    chances: np.ndarray
    usable: np.ndarray
    thresholds: np.ndarray

    @property
    def given(self) -> np.ndarray:
        """(N, classes) bool: which names are given; none to an image that cannot be used."""
        return (self.chances >= self.thresholds) & self.usable[:, np.newaxis]


@dataclasses.dataclass(frozen=True)
class ClassRow:
    """How good the answers are about one class.

    Attributes:
        name: of the class.
        images: that have it.
        average_precision: of its ranking; NaN where no image has it.
        threshold: from which on it is given.
        precision: share of those that were given it rightly; NaN where none was.
        recall: share of those that have it, and were given it; NaN where none has.
        f1: harmonic mean of both.
    """

    name: str
    images: int
    average_precision: float
    threshold: float
    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class MultiSummary:
    """The numbers of an evaluation; intervals are of 95 %.

    Attributes:
        images: that count.
        bad: of them, images that cannot be used: in `all_right` they are wrong, and in no other
            number, as in training.
        map: mean of the classes' average precisions.
        map_micro: average precision of all names in one ranking.
        precision: of all names that were given.
        recall: of all names that are there.
        f1: of both.
        f1_macro: mean of the classes' F1, over those that have images or were given.
        all_right: share of images that were given exactly their names; Wilson's interval.
        loss: mean over images and classes of the cross-entropy in nats; the normal interval.
    """

    images: int
    bad: int
    map: Estimate
    map_micro: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate
    f1_macro: Estimate
    all_right: Estimate
    loss: Estimate


def per_class(answers: MultiAnswers) -> list[ClassRow]:
    """Returns a row for each class, in their order."""
    present, given = answers.present[answers.usable], answers.given[answers.usable]
    precisions = multilabel.average_precisions(present, answers.chances[answers.usable])
    there, told, right = present.sum(0), given.sum(0), (present & given).sum(0)
    columns = (
        answers.names,
        there.tolist(),
        precisions.tolist(),
        answers.thresholds.tolist(),
        _ratio(right, told).tolist(),
        _ratio(right, there).tolist(),
        _ratio(2 * right, there + told).tolist(),
    )
    return [ClassRow(*cells) for cells in zip(*columns)]


def surest_mistakes(answers: MultiAnswers) -> list[int]:
    """Returns the numbers of the images with a name too many or too few, the surest first.

    As sure as the surest of these names: its probability has gone so much of the way from the
    threshold to 1, or to 0.
    """
    room = np.where(answers.given, 1 - answers.thresholds, answers.thresholds)
    sureness = np.abs(answers.chances - answers.thresholds) / np.maximum(room, 1e-9)
    wrong = (answers.given != answers.present) & answers.usable[:, np.newaxis]
    order = np.argsort(-np.where(wrong, sureness, -1.0).max(-1), kind="stable")
    return order[wrong.any(-1)[order]].tolist()


def _ratio(part, whole):
    """The quotient of two counts, or arrays of them; NaN where there is nothing to divide by."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def summary(answers: MultiAnswers) -> MultiSummary:
    """Returns the numbers of an evaluation."""
    usable = answers.usable
    present, given, chances = (
        answers.present[usable],
        answers.given[usable],
        answers.chances[usable],
    )
    right = (answers.given == answers.present).all(-1) & usable
    estimates = {}
    for name, function in _OF_NAMES.items():
        estimates[name] = _drawn(function, present, given)
    for name, function in _OF_RANKINGS.items():
        estimates[name] = _drawn(function, present, chances, chances.size)
    return MultiSummary(
        images=len(usable),
        bad=int((~usable).sum()),
        all_right=share(int(right.sum()), len(right)),
        loss=mean(_losses(present, chances)),
        **estimates,
    )


def _losses(present, chances):
    """(N,) float64; an answer of 0 or 1, as of quantised files, is no infinite loss."""
    own = np.where(present, chances, 1 - chances)
    return -np.log(np.maximum(own, np.finfo("float32").tiny)).mean(-1)


def _precision(present, given):
    return float(_ratio((present & given).sum(), given.sum()))


def _recall(present, given):
    return float(_ratio((present & given).sum(), present.sum()))


def _f1(present, given):
    return float(_ratio(2 * (present & given).sum(), present.sum() + given.sum()))


def _f1_macro(present, given):
    found = _ratio(2 * (present & given).sum(0), present.sum(0) + given.sum(0))
    return multilabel.macro(found)


def _map(present, chances):
    return multilabel.macro(multilabel.average_precisions(present, chances))


_OF_NAMES = {"precision": _precision, "recall": _recall, "f1": _f1, "f1_macro": _f1_macro}
_OF_RANKINGS = {"map": _map, "map_micro": multilabel.micro}


def _drawn(
    function: Callable[[np.ndarray, np.ndarray], float],
    present: np.ndarray,
    answers: np.ndarray,
    ranked: int = 0,
) -> Estimate:
    """Returns a number of some images, with the interval of a bootstrap over them.

    Args:
        function: of (N, classes) of what is there and of what was answered.
        present: what is there.
        answers: what was answered.
        ranked: how many answers `function` ranks.
    """
    count = len(present)
    if not count:
        return Estimate(np.nan, np.nan, np.nan)
    value = function(present, answers)
    if ranked > MOST:
        return Estimate(value, np.nan, np.nan)
    random = np.random.default_rng(0)
    some = (random.integers(0, count, count) for _ in range(RESAMPLES))
    drawn = [function(present[numbers], answers[numbers]) for numbers in some]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Estimate(value, float(low), float(high))
