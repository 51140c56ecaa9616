"""What does every reader of weights files return, and what is it told about the model?"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from effnet_tf.errors import InputError, shown
from effnet_tf.weights import names


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a weights file holds.

    Attributes:
        kind: its format, for people.
        values: canonical name -> (name in the file, array in Keras' layout).
        ema: whether these are averaged weights; None where the file has one set only.
        normalization: (mean, std) per channel, on pixels in [0, 255], of the model the
            file was written for; () if its caller normalised; None if it does not say.
        families: of `variants.FAMILIES`, those that it can be of; () for a format that all of
            them share.
    """

    kind: str
    values: dict[str, tuple[str, np.ndarray]]
    ema: bool | None = None
    normalization: tuple | None = None
    families: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Target:
    """The model that a file is read for, as far as formats need it.

    Attributes:
        layers: canonical names of its layers, in order.
        numbers: (stage, index) -> number of the block, see `names.canonical`.
        parameters: how many numbers it has, which limits what a file may claim.
        network: what stands before and behind the names of its layers, see `Place`: of
            several networks in a file the one with these names is taken.
    """

    layers: list[str]
    numbers: dict[tuple[int, int], int]
    parameters: int = 0
    network: tuple[str, str] = ("", "")


def name_values(
    values: Mapping[str, np.ndarray], split: names.Split, target: Target
) -> dict[str, tuple[str, np.ndarray]]:
    """Returns the `values` of `Contents`.

    Args:
        values: name in the file -> array in Keras' layout.
        split: of these names, see `names.canonical`.
        target: the model they are for.

    Raises:
        InputError: two of them are the same variable of an EfficientNet.
        ValueError: one does not hold numbers.
    """
    for name, value in values.items():
        if value.dtype.kind not in "fiub":
            raise ValueError(f"'{name}' holds {value.dtype} values, not numbers")
    counted = _rename(values, names.canonical(split))
    if names.identify(shapes_of(counted)):
        return counted
    # A network of one's own, or a block is missing: the model knows how many there are.
    return _rename(values, names.canonical(split, target.numbers))


def shapes_of(values: Mapping[str, tuple[str, np.ndarray]]) -> dict[str, tuple[int, ...]]:
    """Returns {canonical name: shape} of the `values` of `Contents`."""
    return {name: value.shape for name, (_, value) in values.items()}


def _rename(values, canonical):
    found = {}
    for name, value in values.items():
        other = found.setdefault(canonical[name], (name, value))[0]
        if other != name:
            raise InputError(
                f"The file holds several networks: '{shown(other)}' and '{shown(name)}' are "
                "both the same variable of an EfficientNet. Save the weights of one of them."
            )
    return found
