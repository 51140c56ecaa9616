"""What does a network say of image files, however many, and whatever some of them are?"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from effnet_tf.inference import photos, subjects
from effnet_tf.inference.photos import Example
from effnet_tf.messages import log

BATCH_SIZE = 16
TOP = 5


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network says of one image.

    Attributes:
        image: path of the file.
        classes: the names of the best classes, the best first; () of a bad image. Where an image
            may have several names, those that it is given, from their thresholds on.
        probabilities: of these, in [0, 1].
        fault: why the image cannot be used, in a few words; None: it can.
        pixels: what the network saw, (H, W, C) float32 in [0, 255]; None of a bad image.
    """

    image: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    fault: str | None = None
    pixels: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)


def predict(
    what: str,
    paths: Iterable[str | Example],
    *,
    options: subjects.Options | None = None,
    top: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Prediction]:
    """Says what a network sees in image files, one after the other.

    Args:
        what: the network; see `subjects.open_subject`.
        paths: image files; see `finding.Finder` for folders and patterns. They are taken from the
            iterable as they are needed.
        options: what else is said of the network.
        top: how many classes of each image at most; None: 5, or where an image may have several
            names, all that it is given.
        batch_size: images that are answered together.

    Yields:
        A `Prediction` for each, in their order. A bad image is one with a `fault`.

    Raises:
        InputError: the network cannot be used.
    """
    yield from answers(subjects.open_subject(what, options), paths, top, batch_size)


def answers(
    subject: subjects.Subject,
    paths: Iterable[str | Example],
    top: int | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Prediction]:
    """As `predict`, of a network that is open."""
    names = names_of(subject)
    if top is None and subject.thresholds is None:
        top = TOP
    for group in groups(photos.examples(paths, subject), batch_size):
        yield from _answered(group, subject, names, top)


def names_of(subject: subjects.Subject) -> tuple[str, ...]:
    """Returns the names of a network's classes; "class 0" and so on where nobody named them."""
    if subject.class_names:
        return subject.class_names
    log.info("Nobody has said what its classes are called, so class numbers are given.")
    return tuple(f"class {number}" for number in range(subject.classes))


def groups(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """Yields lists of up to `size` examples."""
    group: list[Example] = []
    for example in examples:
        group.append(example)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _answered(group: Sequence[Example], subject, names, top) -> Iterator[Prediction]:
    good = [example.pixels for example in group if example.pixels is not None]
    rows = iter(())
    if good:
        rows = iter(subject.answer(np.stack(good)))
    for example in group:
        if example.pixels is None:
            yield Prediction(example.title, fault=example.fault)
            continue
        row = next(rows)
        best = _best(row, subject.thresholds, top)
        classes = tuple(names[number] for number in best)
        chances = tuple(float(row[number]) for number in best)
        yield Prediction(example.title, classes, chances, pixels=example.pixels)


def _best(row, thresholds, top):
    """The numbers of the classes that are told of an image, the best first."""
    best = np.argsort(-row, kind="stable")
    if thresholds is not None:
        best = best[row[best] >= thresholds[best]]
    return best[:top].tolist()
