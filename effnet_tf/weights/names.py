"""What is each variable of an EfficientNet called here, whatever file it comes from?

Canonical names are `stem_conv/kernel`, `blocks_3/expand_conv/kernel` (blocks counted
from 0 over all stages), `top_bn/gamma`, `predictions/bias`; shapes are those of Keras.
What is not part of an EfficientNet keeps its own name. What files call these variables is said
beside the reader of each format.
"""

import re
from collections.abc import Mapping

from effnet_tf import variants

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")

# Name in a file -> (block, name inside it); the block is None outside of blocks, its number over
# all stages, or (stage, index in it), from 1 and 0.
Split = Mapping[str, tuple[int | tuple[int, int] | None, str]]


def canonical(split: Split, numbers: Mapping | None = None) -> dict[str, str]:
    """Turns the split names of a format into canonical ones.

    Args:
        split: name -> (block, name inside it), see `Split`.
        numbers: (stage, index) -> number; by default they are counted, which is wrong for
            a file that lacks a block.

    Returns:
        name -> canonical name; a block without a number leaves the name as it is.
    """
    if numbers is None:
        keys = {block for block, _ in split.values() if isinstance(block, tuple)}
        numbers = {key: number for number, key in enumerate(sorted(keys))}
    found = {}
    for name, (block, inside) in split.items():
        if block is None:
            found[name] = inside
            continue
        number = numbers.get(block) if isinstance(block, tuple) else block
        found[name] = name if number is None else f"blocks_{number}/{inside}"
    return found


def split_counted(
    layer: str, block: re.Pattern, outside: Mapping[str, str], inside: Mapping[str, str]
) -> tuple[int | None, str]:
    """Splits a layer of a format that counts its blocks over all stages, see `Split`.

    Args:
        layer: its name in the file.
        block: matches a layer of a block: (number of the block, name inside it).
        outside: name in the file -> ours, of the layers outside of blocks.
        inside: the same, of those in blocks. A name that is in neither stays as it is.
    """
    match = block.match(layer)
    if match is None:
        return None, outside.get(layer, layer)
    return int(match[1]), inside.get(match[2], match[2])


def batch_norms(expands: bool, depthwise: bool) -> list[str]:
    """Returns the names of a block's batch norms, in order.

    Args:
        expands: whether the block has an expansion.
        depthwise: whether it has a depthwise convolution.
    """
    found = ["project_bn"]
    if depthwise:
        found.insert(0, "bn")
    if expands:
        found.insert(0, "expand_bn")
    return found


def block_number(name: str) -> int | None:
    """Returns 3 for `blocks_3/...`, None for what is outside of blocks."""
    part = name.partition("/")[0]
    number = part.removeprefix("blocks_")
    if number == part or not number.isdigit():
        return None
    return int(number)


def layers(variant: str | variants.Variant) -> list[str]:
    """Returns the canonical names of a classifier's layers, in order."""
    found = []
    for convolution in variants.resolve(variant).convolutions():
        found.append(convolution.name)
        if convolution.batch_norm is not None:
            found.append(convolution.batch_norm)
    return found


def block_kernels(variant: str | variants.Variant) -> dict[str, tuple[int, ...]]:
    """Returns {canonical name: shape} of every kernel in the blocks of a variant."""
    return {
        f"{convolution.name}/kernel": convolution.kernel_shape
        for convolution in variants.resolve(variant).convolutions()
        if block_number(convolution.name) is not None
    }


def identify(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Returns the names of the released variants that variables are of.

    Args:
        shapes: canonical name -> shape, of a whole network or of its first blocks.

    Returns:
        A list; several where the first blocks do not tell, none for another network.
    """
    ours = {
        name: tuple(shape)
        for name, shape in shapes.items()
        if name.startswith("blocks_") and name.endswith("/kernel")
    }
    if not ours:
        return []
    count = len({name.partition("/")[0] for name in ours})
    whole, partly = [], []
    for variant in variants.VARIANTS:
        kernels = block_kernels(variant)
        first = {name: shape for name, shape in kernels.items() if _comes_before(count, name)}
        if first == ours and len(first) == len(kernels):
            whole.append(variant)
        elif first == ours:
            partly.append(variant)
    return whole or partly


def _comes_before(count, name):
    number = block_number(name)
    return number is not None and number < count
