"""Which variables of a model does a file have, and in which shape?"""

import dataclasses
import re
from collections.abc import Collection, Mapping

import numpy as np

from effnet_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Match:
    """Canonical names, by how file and model agree on them.

    Attributes:
        found: name -> the array to assign.
        adapted: of `found`, those that the file has in another shape.
        reshaped: names that the file has in another shape, and that were not adapted.
        missing: names of the model that the file lacks.
        unused: names of the file that the model lacks.
        renamed: of `found`, those that the file has under another name -> that name.
    """

    found: dict[str, np.ndarray]
    adapted: tuple[str, ...]
    reshaped: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    renamed: dict[str, str]

    @property
    def own(self) -> tuple[str, ...]:
        """Of `missing`, those of the user's layers, which keep their values."""
        return tuple(
            name for name in self.missing if not _is_network(name) and not _is_classifier(name)
        )

    @property
    def wrong(self) -> tuple[str, ...]:
        """The names on which file and model do not agree."""
        return self.adapted + self.reshaped + self.missing + self.unused

    def in_file(self, name: str) -> str:
        """Returns what a variable of the model is called in the file."""
        return self.renamed.get(name, name)

    def without_ends(self) -> "Match":
        """Returns what is left to complain about where the ends of networks may differ.

        A classifier may have another size or be missing, and so may the user's own layers
        around a network; a model may end early; a file may hold other people's layers.
        """
        parts = {_part(name) for name in (*self.found, *self.reshaped, *self.missing)}
        ends_early = parts.isdisjoint(("top_conv", "predictions"))

        def is_left_over(name):
            return _is_network(name) and not (ends_early and _part(name) not in parts)

        return dataclasses.replace(
            self,
            adapted=(),
            reshaped=tuple(filter(_is_network, self.reshaped)),
            missing=tuple(filter(_is_network, self.missing)),
            unused=tuple(filter(is_left_over, self.unused)),
        )


def _part(name):
    return name.partition("/")[0]


def _is_classifier(name):
    return _part(name) == "predictions"


def _is_network(name):
    """Whether a variable is a network's without its classifier, and not of other layers."""
    return (
        re.match(r"(stem_conv|stem_bn|blocks_\d+|top_conv|top_bn|top_projection)/", name)
        is not None
    )


def match(
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, np.ndarray],
    adapt: bool,
    optional: Collection[str] = (),
) -> Match:
    """Compares a model with a file, by canonical name and shape.

    Args:
        shapes: canonical name -> shape, of the model's variables.
        values: canonical name -> array, of the file.
        adapt: whether the stem of RGB images may serve other channels, and a classifier may
            have another name in the file.
        optional: names of the model's variables that no file must have.

    Raises:
        InputError: several layers of the file could be the classifier.
    """
    found, adapted, reshaped = {}, [], []
    renamed = _find_classifier(shapes, values) if adapt else {}
    for name, shape in shapes.items():
        if name in renamed:
            found[name] = values[renamed[name]]
        if name not in values:
            continue
        value = values[name]
        if value.shape == shape:
            found[name] = value
        elif adapt and _is_rgb_stem(name, value, shape):
            found[name] = _adapt_stem(value, shape[2])
            adapted.append(name)
        else:
            reshaped.append(name)
    known = {*values, *renamed, *optional}
    return Match(
        found,
        tuple(adapted),
        tuple(reshaped),
        missing=tuple(name for name in shapes if name not in known),
        unused=tuple(
            name for name in values if name not in shapes and name not in renamed.values()
        ),
        renamed=renamed,
    )


def _find_classifier(shapes, values):
    """Returns {name in the model: name in the file} of a classifier that has another name.

    It would stay random otherwise, beside the trained one.
    """
    if "predictions/kernel" not in shapes or any(map(_is_classifier, values)):
        return {}
    found = []
    for name in values:
        before, _, after = name.rpartition("kernel")  # Keras 2 writes "kernel:0"
        theirs = {"predictions/kernel": name, "predictions/bias": f"{before}bias{after}"}
        if name not in shapes and _have_shapes(theirs, shapes, values):
            found.append(theirs)
    if len(found) > 1:
        kernels = " or ".join(theirs["predictions/kernel"] for theirs in found)
        raise InputError(
            f"The file has no classifier called 'predictions', and {kernels} could be it: save "
            "the network with one of them."
        )
    return next(iter(found), {})


def _have_shapes(theirs, shapes, values):
    return all(
        name in values and values[name].shape == shapes[ours] for ours, name in theirs.items()
    )


def _is_rgb_stem(name, kernel, shape):
    return name == "stem_conv/kernel" and kernel.shape == (*shape[:2], 3, shape[3])


def _adapt_stem(kernel, channels):
    """Turns an RGB stem kernel (k, k, 3, F) into (k, k, channels, F): responses keep their size."""
    if channels < 3:
        return np.repeat(kernel.sum(2, keepdims=True) / channels, channels, axis=2)
    return kernel[:, :, np.arange(channels) % 3] * (3 / channels)
