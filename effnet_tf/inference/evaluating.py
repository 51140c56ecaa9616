"""How is a network evaluated on labelled images, each counted once?

The images are made by `data.evaluation`, as in training: the same crops, padding of weight 0, bad
images named and counted as wrong.
"""

import dataclasses
import functools
import io
import sys
import time
from collections.abc import Iterator
from typing import TextIO

import numpy as np

from effnet_tf import data, progress
from effnet_tf.data import bad_images
from effnet_tf.errors import InputError
from effnet_tf.inference import matching, metrics, multi, samples, subjects
from effnet_tf.inference.metrics import Answers, Summary
from effnet_tf.inference.multi import MultiAnswers, MultiSummary
from effnet_tf.messages import log

BATCH_SIZE = 32
MAX_BAD_FRACTION = 0.001  # as of recipes


@dataclasses.dataclass(frozen=True)
class _Evaluation:
    """The answers of a network to labelled images; of both kinds of labels.

    Attributes:
        subject: the network.
        source: the images, as its `held_out`.
        matching: which class of the network each class of theirs is.
        own_labels: (N,) int64, among the labels of the images; -1 where an image is bad.
        images_per_second: that were read, decoded and answered; after the first batch, where
            there are others, because it is only then that everything runs.
    """

    subject: subjects.Subject
    source: data.Source
    matching: matching.Matching
    own_labels: np.ndarray
    images_per_second: float

    def name(self, number: int) -> str:
        """Returns what an image is called: its path, or its place in a record file."""
        return self.source.held_out.name(number)["key"]


@dataclasses.dataclass(frozen=True)
class Evaluation(_Evaluation):
    """The answers of a network to labelled images.

    Attributes:
        answers: of all images, in their order.
    """

    answers: Answers

    @functools.cached_property
    def summary(self) -> Summary:
        """Its numbers."""
        return metrics.summary(self.answers)


@dataclasses.dataclass(frozen=True)
class MultiEvaluation(_Evaluation):
    """The answers of a network that may give an image several names.

    Attributes:
        answers: of all images, in their order.
    """

    answers: MultiAnswers

    @functools.cached_property
    def summary(self) -> MultiSummary:
        """Its numbers."""
        return multi.summary(self.answers)

    @functools.cached_property
    def classes(self) -> list[multi.ClassRow]:
        """A row for each class, in their order."""
        return multi.per_class(self.answers)


def evaluate(
    what: str,
    where: str | None = None,
    *,
    options: subjects.Options | None = None,
    split: str | None = None,
    data_dir: str | None = None,
    num_classes: int | None = None,
    first_label: int = 1,
    batch_size: int = BATCH_SIZE,
    max_bad_fraction: float | None = None,
    file: TextIO | io.TextIOBase | None = None,
) -> Evaluation | MultiEvaluation:
    """Evaluates a network on labelled images.

    Args:
        what: the network; see `subjects.open_subject`.
        where: the images; see `samples.KINDS`; None: the held-out images of the run `what`.
        options: what else is said of the network.
        split, data_dir, num_classes, first_label: as of `samples.open_samples`.
        batch_size: images that are answered together; it changes no number.
        max_bad_fraction: images that may be bad, in [0, 1]; None: as many as in training, 0.001,
            or what the run allows whose images they are.
        file: where progress is shown; None: standard error.

    Returns:
        An `Evaluation`; a `MultiEvaluation` of a network that may give an image several names.

    Raises:
        InputError: the network or the images cannot be used, have no class in common, or too
            many images are bad.
    """
    subject = subjects.open_subject(what, options)
    if where is None:
        where = _own(what, subject)
    several = subject.thresholds is not None
    source = samples.open_samples(
        where,
        split=split,
        data_dir=data_dir,
        num_classes=num_classes,
        first_label=first_label,
        several=several,
    )
    _check_square(subject)
    matched = matching.match(subject.class_names, source.class_names, subject.classes, several)
    for note in matched.notes:
        log.info(note)
    if max_bad_fraction is None:
        max_bad_fraction = samples.bound_of(where, MAX_BAD_FRACTION)
    parts, ends = _answered(subject, source, batch_size, max_bad_fraction, file)
    for entry in source.bad.entries:
        log.info(f"{entry['key']}: {entry['reason']}; it counts as wrong.")
    labels = np.concatenate([part[0] for part in parts])
    speed = _speed([len(part[0]) for part in parts], ends)
    about = (subject, source, matched, labels, speed)
    if several:
        chances = np.concatenate([part[1] for part in parts])
        return MultiEvaluation(*about, _several(subject, source, matched, labels, chances))
    answers = [metrics.answered(matched.labels(some), chances) for some, chances in parts]
    return Evaluation(*about, metrics.joined(answers))


def _answered(subject, source, batch_size, max_bad_fraction, file):
    """Returns [(labels, probabilities)] of all images, and when each batch was answered."""
    with progress.elapsed("Preparing the network ...", file or sys.stderr):  # before the clock
        subject.answer(np.zeros((1, *subject.size, 3), "float32"))
    parts, ends = [], [time.monotonic()]
    for images, labels in _batches(subject, source, batch_size, file):
        bad_images.check(source, max_bad_fraction)
        parts.append((labels, subject.answer(images)))
        ends.append(time.monotonic())
    return parts, ends


def _several(subject, source, matched, labels, chances) -> MultiAnswers:
    """Returns what is kept of answers, of the classes that both know, in the network's order."""
    theirs = np.flatnonzero(matched.numbers >= 0)
    theirs = theirs[np.argsort(matched.numbers[theirs])]
    ours, usable = matched.numbers[theirs], labels >= 0
    present = source.label_sets[np.maximum(labels, 0)][:, theirs] & usable[:, np.newaxis]
    names = tuple(matched.names[number] for number in ours)
    return MultiAnswers(names, present, chances[:, ours], usable, subject.thresholds[ours])


def _speed(sizes, ends):
    """Images per second, of batches of some sizes; `ends` begins with the start of the first."""
    first = min(1, len(sizes) - 1)
    return sum(sizes[first:]) / max(ends[-1] - ends[first], 1e-9)


def _own(what, subject):
    if not subject.is_run:
        raise InputError(f"'{what}' has no images of its own: give --data, {samples.KINDS}.")
    return what


def _check_square(subject):
    height, width = subject.size
    if height != width:
        raise InputError(
            f"'{subject.path}' takes images of {height} x {width} pixels; only networks of square "
            "images can be evaluated."
        )


def _batches(subject, source, batch_size, file) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (images, labels) of every image once, in the order of the records."""
    count = source.num_eval
    batches = data.evaluation(
        source, subject.recipe, subject.size[0], batch_size, -(-count // batch_size)
    )
    with progress.bar("Evaluating", count, file=file) as bar:
        for batch in batches.as_numpy_iterator():
            real = batch["weights"] > 0  # the last batch is filled up
            yield batch["images"][real], batch["labels"][real]
            bar.update(int(real.sum()))
