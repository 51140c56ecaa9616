"""What are the classes of ImageNet called?

imagenet_classes.txt, beside this file, says it, and from where. Nothing is downloaded.
"""

import functools
import importlib.resources
from collections import Counter

from effnet_tf.class_names import BACKGROUND
from effnet_tf.errors import InputError

CLASSES = 1000  # and one more where label 0 is the background, as in EdgeTPU's networks


@functools.cache
def synsets() -> tuple[tuple[str, str], ...]:
    """Returns (WordNet id, name) of the 1,000 classes in their order: ("n02123159", "tiger cat").

    Two names are there twice: "crane" is a bird and a machine, "maillot" two garments.
    """
    text = (
        importlib.resources.files(__package__).joinpath("imagenet_classes.txt").read_text("utf-8")
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple((line[:9], line[10:]) for line in lines)


def names(classes: int = CLASSES) -> tuple[str, ...]:
    """Returns a name for each class of a network; what shares its name bears its id, too.

    Args:
        classes: of the network: 1000, or 1001 with the background first.

    Raises:
        InputError: another number.
    """
    if classes not in (CLASSES, CLASSES + 1):
        raise InputError(
            f"ImageNet has {CLASSES} classes, or {CLASSES + 1} with the background, not {classes}."
        )
    count = Counter(name for _, name in synsets())
    found = []
    if classes > CLASSES:
        found.append(BACKGROUND)
    for number, name in synsets():
        if count[name] > 1:
            name = f"{name} ({number})"
        found.append(name)
    return tuple(found)
