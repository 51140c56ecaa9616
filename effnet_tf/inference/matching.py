"""Which class of the network is each class of the images? Names decide, never positions."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from effnet_tf.errors import InputError, nearest, printable
from effnet_tf.inference.metrics import UNKNOWN
from effnet_tf.models import imagenet_classes

_SHOWN = 5  # names in a sentence


@dataclasses.dataclass(frozen=True)
class Matching:
    """Where the classes of the images are in the network.

    Attributes:
        numbers: (classes of the images,) int64, the number of each in the network, or UNKNOWN.
        names: of the network's classes.
        notes: sentences on what is not one to one.
        unknown: names of classes that the network does not know.
    """

    numbers: np.ndarray
    names: tuple[str, ...]
    notes: tuple[str, ...]
    unknown: tuple[str, ...]

    def labels(self, labels: np.ndarray) -> np.ndarray:
        """Returns labels of the images, (N,) int64, as the network's; negative ones stay."""
        return np.where(labels >= 0, self.numbers[np.maximum(labels, 0)], labels)


def match(
    network: Sequence[str], images: Sequence[str], classes: int, several: bool = False
) -> Matching:
    """Finds the classes of the images among those of the network.

    Args:
        network: names of its classes; () where nobody named them.
        images: names of theirs.
        classes: how many classes the network has.
        several: whether an image may have several of them.

    Raises:
        InputError: they have no class in common, or nobody named the network's and there are
            not as many.
    """
    if not network:
        return _by_position(images, classes)
    numbers = _numbers(network, images)
    known = [name for name, number in zip(images, numbers) if number >= 0]
    unknown = tuple(name for name, number in zip(images, numbers) if number < 0)
    if not known:
        raise InputError(
            f"The network knows none of the classes of the images: these are {_some(images)}, and "
            f"it knows {_some(network)}. {nearest(images[0], map(str, network))} Name its classes "
            "with --labels if these are wrong."
        )
    _check_once(network, images, numbers)
    notes = tuple(_notes(network, images, numbers, unknown, several))
    return Matching(numbers, tuple(network), notes, unknown)


def _by_position(images, classes):
    if len(images) != classes:
        raise InputError(
            f"Nobody has said what the network's {classes} classes are called, and the images have "
            f"{len(images)}: name them with --labels FILE, one per line in the network's order "
            "(or --labels imagenet)."
        )
    note = (
        "Nobody has said what the network's classes are called: it is assumed that they are those "
        f"of the images, in this order: {_some(images)}. Else name them with --labels."
    )
    return Matching(np.arange(classes), tuple(images), (note,), ())


def _numbers(network, images):
    """The number of each of the images' classes in the network; UNKNOWN of others.

    A name may be written in another case; one of ImageNet's may be its WordNet id.
    """
    exact = {name: number for number, name in enumerate(network)}
    loose: dict[str, int] = {}
    for number, name in enumerate(network):
        loose.setdefault(_plain(name), number)
    return np.array([exact.get(name, loose.get(_plain(name), UNKNOWN)) for name in images], "int64")


def _plain(name):
    """What a name has in common with other ways to write it."""
    return _synsets().get(name, name).casefold().replace("_", " ").strip()


@functools.cache
def _synsets():
    """{name of a class of ImageNet: its WordNet id}."""
    ids = [synset for synset, _ in imagenet_classes.synsets()]
    return dict(zip(imagenet_classes.names(), ids))


def _check_once(network, images, numbers):
    first: dict[int, str] = {}
    for name, number in zip(images, numbers.tolist()):
        other = first.setdefault(number, name)
        if number >= 0 and other is not name:
            raise InputError(
                f"The images have the classes '{printable(other)}' and '{printable(name)}', and "
                f"the network only '{printable(network[number])}': rename one of them."
            )


def _notes(network, images, numbers, unknown, several):
    known = numbers[numbers >= 0]
    renamed = [
        f"{printable(name)} = {printable(network[number])}"
        for name, number in zip(images, numbers)
        if number >= 0 and network[number] != name
    ]
    if renamed:
        yield f"Other ways to write the same names: {_some(renamed)}."
    if (np.diff(known) < 0).any():
        yield "The images have their classes in another order: they are matched by name."
    others, strangers = "answers of the others are wrong", "these images are answered, and count"
    if several:
        others, strangers = "the others count nowhere", "these names count"
    if len(known) < len(network):
        yield (
            f"The images are of {len(known):,} of the network's {len(network):,} classes; {others}."
        )
    if unknown:
        yield f"The network does not know {_some(unknown)}: {strangers} nowhere."


def _some(names):
    shown = [printable(name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        return f"{', '.join(shown)} and {len(names) - _SHOWN:,} more"
    return ", ".join(shown)
