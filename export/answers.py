"""How are the answers of a classifier shown, and which images were answered?"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from effnet_tf import class_names
from effnet_tf.errors import InputError, printable
from effnet_tf.models import imagenet_classes

from .opened import IMAGENET

if TYPE_CHECKING:
    from effnet_tf.inference.photos import Example

_SHOWN = 5  # bad images that the last sentence names; each has its own line above


Classifier = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, C) to scores (N, classes)


class Answers:
    """What has been answered so far: printed at once, kept for the picture."""

    def __init__(self, file: str, names: Sequence[str]):
        self._file, self._names = file, names
        self._named = None
        self._shown, self._bad, self._right = [], [], []

    def add(self, examples: "Sequence[Example]", classifier: Classifier) -> None:
        """Prints the answers for some examples, in their order."""
        good = [example for example in examples if example.fault is None]
        scores = []
        if good:
            scores = classifier(np.stack([example.pixels for example in good]))
        rows = iter(scores)
        for example in examples:
            if example.fault is not None:
                self._bad.append(example)
                print(f"{printable(example.title)}: cannot be used: {printable(example.fault)}")
                continue
            self._show(example, next(rows))

    def _show(self, example, row):
        if self._named is None:
            self._named = _named(self._names, len(row), self._file)
        print(f"{printable(example.title)}: {_top5(row, self._named)}")
        best = self._named[row.argmax()]
        right = self._judge(best, example.label)
        self._shown.append((example.pixels, _caption(best, row, example.label, right), right))

    def _judge(self, best, label):
        """Returns whether an answer is right, and counts it; None: nobody knows."""
        if label is None:
            return None
        self._right.append(best == printable(label))
        return self._right[-1]

    def finish(self, picture: str | None) -> None:
        """Counts, draws, and raises InputError if some images could not be used."""
        if self._right:
            print(f"{sum(self._right)} of {len(self._right)} right")
        if picture and self._shown:
            _draw(picture, self._shown)
        if self._bad:
            self._refuse()

    def _refuse(self):
        total = len(self._bad) + len(self._shown)
        some = "; ".join(map(_fault, self._bad[:_SHOWN]))
        more = ""
        if len(self._bad) > _SHOWN:
            more = f"; and {len(self._bad) - _SHOWN} more, named above"
        raise InputError(f"{len(self._bad)} of {total} images cannot be used: {some}{more}.")


def _fault(example):
    return f"'{example.title}': {example.fault}"


def _named(names, count, file):
    """Returns a name for each of `count` classes, in one line each."""
    names = class_names.fitting(names, count)
    if len(names) == count:
        return [printable(name) for name in names]
    what = "no names"
    if names:
        what = f"{len(names)} names"
    hint = ""
    if count in (imagenet_classes.CLASSES, imagenet_classes.CLASSES + 1):
        hint = f" If they are ImageNet's, give --labels {IMAGENET}."
    print(
        f"'{printable(file)}' has {what} for its {count} classes, so class numbers are shown.{hint}"
    )
    return [f"class {number}" for number in range(count)]


def _top5(row, names):
    return ", ".join(f"{names[index]} {_score(row, index)}" for index in np.argsort(-row)[:5])


def _score(row, index, digits=1):
    """Returns a probability as text; a logit as it is."""
    is_probability = row.min() >= 0 and row.sum() < 1.5  # quantised ones may pass 1 a little
    if is_probability:
        return f"{row[index]:.{digits}%}"
    return f"{row[index]:.2f}"


def _caption(best, row, label, right):
    caption = f"{best} ({_score(row, row.argmax(), 0)})"
    if right is False:
        return f"{caption}, is {printable(label)}"
    return caption


def _draw(path, shown):
    from effnet_tf import plots

    images, captions, right = zip(*shown)
    if plots.predictions(list(map(_coloured, images)), captions, right, path):
        print(f"Drew {path}")


def _coloured(image):
    """Returns what can be shown of an image: (H, W, C) float or uint8 -> (H, W, 3 or 4) uint8."""
    image = np.clip(np.round(image), 0, 255).astype("uint8")
    if image.shape[-1] == 1:
        return np.repeat(image, 3, -1)
    return image
