"""How are the layers of a network called, and of which stage is one by its name?

The names are those of keras.applications: `stem_conv`, `block2a` (the first block of stage 2),
`top_bn`, `predictions`. What is inside a block is called `block2a/expand_conv` in the form of
blocks and `block2a_expand_conv` in the flat one, as there; both are understood.

Two networks in one graph cannot both keep these names. People put something before or behind
those of one of them, so names are looked at together: `right_stem_conv` is a network's stem where
there are blocks called `right_block1a_...`, and somebody else's layer where there are none.
"""

import dataclasses
import re
from collections.abc import Iterable

from effnet_tf.variants.kinds import NAMES_INSIDE

# keras.applications calls EfficientNetV2's depthwise convolutions dwconv2; it stands before dwconv,
# which is no dwconv with a 2 behind it.
_INSIDE = "dwconv2|" + "|".join(name.replace("/", "[/_]") for name in NAMES_INSIDE)
_OUTSIDE = "stem_conv|stem_bn|top_conv|top_bn|top_projection|predictions"
_STAGES = {"stem": "stem", "top": "head", "predictions": "classifier"}
# A layer anywhere in the path of a variable; and one that a path ends with.
_ANYWHERE = re.compile(rf"(?:^|/)(?:block(\d+)[a-z]+(?:_(?:{_INSIDE}))?|({_OUTSIDE}))(?:/|$)")
_AT_THE_END = re.compile(rf"(?:^|/)(?:block(\d+)([a-z]+)[/_]({_INSIDE})|({_OUTSIDE}))$")
# The same with something before and behind the names of the network: right_block2a/bn, stem_bn_2.
_RENAMED = re.compile(
    r"(?<![^/])(?P<before>[^/]*?)(?:"
    r"block(?P<stage>\d+)(?P<letters>[a-z]+)"
    rf"(?:_(?P<inside>{_INSIDE})(?P<after>[^a-z/][^/]*)?"
    rf"|(?P<behind>[^a-z/][^/]*)?/(?P<layer>{_INSIDE}))"
    rf"|(?P<outside>{_OUTSIDE})(?P<last>[^a-z/][^/]*)?)(?=/|$)"
)
_IN_EVERY_BLOCK = ("project_conv", "project_bn")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in a network a layer is.

    Attributes:
        layer: its name, inside its block if it is in one: "stem_conv", "se/reduce".
        stage: number of the block's stage, from 1; None outside the blocks.
        index: number of the block in its stage, from 0; None outside the blocks.
        network: what stands before and behind the names of this network's layers.
    """

    layer: str
    stage: int | None = None
    index: int | None = None
    network: tuple[str, str] = dataclasses.field(default=("", ""), repr=False)


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
    return Place(_canonical(inside), int(stage), block_index(letters))


def _canonical(inside):
    """Returns our name of a layer in a block, whichever form it is of."""
    if inside == "dwconv2":
        return "dwconv"
    # Between "se" and its convolutions only: the other names hold underscores of their own.
    return re.sub("^se_", "se/", inside)


def stage_of(name: str) -> str | None:
    """Returns the stage that a layer or a variable belongs to.

    Args:
        name: of a layer ("block2a", "top_conv") or the path of a variable
            ("model/block2a/bn/gamma"); nested models are passed through.

    Returns:
        "stem", "stage_1", "stage_2", ..., "head" (the last convolution and its batch norm, and
        a dense layer before the classifier),
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


def places_of(paths: Iterable[str]) -> dict[str, Place]:
    """Returns where those layers are that belong to a network, whatever it was renamed to.

    Args:
        paths: of all layers of a model that have variables, see `place_of`.

    Returns:
        {path: place}, without the layers that belong to no network.

    Example:
        >>> places_of(["my_block2a/project_conv", "my_top_conv"])["my_top_conv"].network
        ('my_', '')
    """
    found = {}
    for path, places in _renamed_places(paths).items():
        place = place_of(path)
        if places and (place is not None or places[-1][1] == len(path)):
            # Of what a legacy file says twice, "my_stem_bn/stem_bn", the name of the layer.
            place = places[0][0]
        if place is not None:
            found[path] = place
    return found


def stages_of(names: Iterable[str]) -> dict[str, str]:
    """Returns the stages of those layers or variables that belong to a network.

    Names of a network may have something before or behind them, the same for all of it:
    "right_block2a" with "right_stem_conv", "block2a_bn_copy" with "top_conv_copy". They are
    told from layers of other people by the blocks of the same network among the names.

    Args:
        names: of all layers of a model, or the paths of its variables. A layer inside a
            block counts for the block: "right_block2a/project_conv".

    Returns:
        {name: stage}, the stages as `stage_of` returns them; without the names that belong
        to no network.

    Example:
        >>> stages_of(["my_block2a/project_conv", "my_top_conv", "other_top_conv"])
        {'my_block2a/project_conv': 'stage_2', 'my_top_conv': 'head'}
    """
    found = {}
    for name, places in _renamed_places(names).items():
        stage = stage_of(name)
        if stage is None and places:
            stage = _stage(places[0][0])
        if stage is not None:
            found[name] = stage
    return found


def _stage(place):
    if place.stage is None:
        return _STAGES[place.layer.split("_")[0]]
    return f"stage_{place.stage}"


def _renamed_places(names):
    """Returns {name: [(place, where it ends in the name), ...]}, those of networks with blocks."""
    found, networks = {}, set()
    for name in names:
        found[name] = [_renamed(match) for match in _RENAMED.finditer(name)]
        networks |= {place.network for place, _ in found[name] if place.layer in _IN_EVERY_BLOCK}
    for name, places in found.items():
        found[name] = [each for each in places if each[0].network in networks]
    return found


def _renamed(match):
    after = match["after"] or match["behind"] or match["last"] or ""
    layer = match["inside"] or match["layer"] or match["outside"]
    network = (match["before"], after)
    if match["stage"] is None:
        return Place(layer, network=network), match.end()
    index = block_index(match["letters"])
    return Place(_canonical(layer), int(match["stage"]), index, network), match.end()
