"""How are the layers of a network called, and of which stage is one by its name?

The names are those of keras.applications: `stem_conv`, `block2a` (the first block of stage 2),
`top_bn`, `predictions`. What is inside a block is called `block2a/expand_conv` here and
`block2a_expand_conv` there; both are understood.
"""

import dataclasses
import re

from effnet_tf.variants.convolutions import NAMES_INSIDE

_INSIDE = "|".join(name.replace("/", "[/_]") for name in NAMES_INSIDE)
_OUTSIDE = "stem_conv|stem_bn|top_conv|top_bn|predictions"
_STAGES = {"stem": "stem", "top": "head", "predictions": "classifier"}
# A layer anywhere in the path of a variable; and one that a path ends with.
_ANYWHERE = re.compile(rf"(?:^|/)(?:block(\d+)[a-z]+(?:_(?:{_INSIDE}))?|({_OUTSIDE}))(?:/|$)")
_AT_THE_END = re.compile(rf"(?:^|/)(?:block(\d+)([a-z]+)[/_]({_INSIDE})|({_OUTSIDE}))$")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in a network a layer is.

    Attributes:
        layer: its name, inside its block if it is in one: "stem_conv", "se/reduce".
        stage: number of the block's stage, from 1; None outside the blocks.
        index: number of the block in its stage, from 0; None outside the blocks.
    """

    layer: str
    stage: int | None = None
    index: int | None = None


def block_letter(index: int) -> str:
    """Returns a, b, ..., z, aa, ab, ... for 0, 1, ..."""
    letters = ""
    while index >= 0:
        index, rest = divmod(index, 26)
        letters = chr(ord("a") + rest) + letters
        index -= 1
    return letters


def block_index(letters: str) -> int:
    """Returns 0, 1, ... for a, b, ..., z, aa, ab, ...: the inverse of `block_letter`."""
    index = 0
    for letter in letters:
        index = 26 * index + ord(letter) - ord("a") + 1
    return index - 1


def place_of(path: str) -> Place | None:
    """Returns where the layer is that a path ends with; None if it is none of a network's.

    Args:
        path: of a layer that has variables, such as "block2a/se/reduce",
            "model/block2a_expand_conv" or "stem_bn".

    Example:
        >>> place_of("efficientnet-b0/block2a/se/reduce")
        Place(layer='se/reduce', stage=2, index=0)
    """
    found = _AT_THE_END.search(path)
    if found is None:
        return None
    stage, letters, inside, outside = found.groups()
    if outside:
        return Place(outside)
    # Between "se" and its convolutions only: the other names hold underscores of their own.
    inside = re.sub("^se_", "se/", inside)
    return Place(inside, int(stage), block_index(letters))


def stage_of(name: str) -> str | None:
    """Returns the stage that a layer or a variable belongs to.

    Args:
        name: of a layer ("block2a", "top_conv") or the path of a variable
            ("model/block2a/bn/gamma"); nested models are passed through.

    Returns:
        "stem", "stage_1", "stage_2", ..., "head" (the last convolution and its batch norm),
        "classifier", or None for everything else.

    Example:
        >>> stage_of("block2a/se/reduce/kernel")
        'stage_2'
    """
    found = _ANYWHERE.search(name)
    if found is None:
        return None
    number, outside = found.groups()
    if number:
        return f"stage_{number}"
    return _STAGES[outside.split("_")[0]]
