"""matching.py: classes are matched by name, and what is not one to one is said."""

import numpy as np
import pytest

from effnet_tf.errors import InputError
from effnet_tf.inference.matching import match
from effnet_tf.inference.metrics import UNKNOWN
from effnet_tf.models import imagenet_classes

NETWORK = ("cat", "dog", "polar bear")


@pytest.mark.parametrize(
    "images, numbers, notes",
    [
        (("cat", "dog", "polar bear"), [0, 1, 2], []),
        (("polar bear", "cat", "dog"), [2, 0, 1], ["in another order: they are matched by name"]),
        (("cat", "dog"), [0, 1], ["2 of the network's 3 classes; answers of the others are wrong"]),
        (
            ("cat", "dog", "fox", "polar bear"),
            [0, 1, UNKNOWN, 2],
            ["The network does not know fox: these images are answered, and count nowhere"],
        ),
        (
            ("Cat", "dog", "Polar_Bear"),
            [0, 1, 2],
            ["Other ways to write the same names: Cat = cat, Polar_Bear = polar bear"],
        ),
    ],
)
def test_by_name(images, numbers, notes):
    found = match(NETWORK, images, 3)
    assert found.numbers.tolist() == numbers and found.names == NETWORK
    assert len(found.notes) == len(notes)
    for note, wanted in zip(found.notes, notes):
        assert wanted in note
    labels = np.array([len(images) - 1, 0, -1])
    assert found.labels(labels).tolist() == [numbers[-1], numbers[0], -1]


def test_imagenet_by_its_ids():
    """A folder of n01440764/ and so on, and a network that says "tench"; and the other way."""
    names, ids = imagenet_classes.names(), [synset for synset, _ in imagenet_classes.synsets()]
    some = (ids[7], ids[2], ids[999])
    assert match(names, some, 1000).numbers.tolist() == [7, 2, 999]
    assert match(imagenet_classes.names(1001), some, 1001).numbers.tolist() == [8, 3, 1000]
    assert match(ids, (names[5], names[1]), 1000).numbers.tolist() == [5, 1]


def test_a_network_without_names():
    found = match((), ("a", "b"), 2)
    assert found.numbers.tolist() == [0, 1] and found.names == ("a", "b")
    assert "it is assumed that they are those of the images, in this order: a, b" in found.notes[0]


@pytest.mark.parametrize(
    "network, images, classes, message",
    [
        (NETWORK, ("fox", "dogs"), 3, "knows none of the classes of the images: these are fox, do"),
        ((), ("a", "b", "c"), 2, "Nobody has said what the network's 2 classes are called, and"),
        (
            NETWORK,
            ("Dog", "dog"),
            3,
            "have the classes 'Dog' and 'dog', and the network only 'dog'",
        ),
    ],
)
def test_what_cannot_be_matched_is_told(network, images, classes, message):
    with pytest.raises(InputError, match=message):
        match(network, images, classes)
