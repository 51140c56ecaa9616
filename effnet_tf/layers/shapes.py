"""What does a layer know of the shapes of its input and output?"""

Shape = tuple[int | None, ...]  # None: not known before there are images


def channels_of(shape: Shape) -> int:
    """Returns the last side of a shape, which kernels cannot do without.

    Raises:
        ValueError: it is not known.
    """
    if not shape or shape[-1] is None:
        raise ValueError(f"The input shape is {shape}; its last side, the channels, must be known.")
    return int(shape[-1])


def output_side(side: int | None, strides: int) -> int | None:
    """Returns the side of a SAME convolution's output; None stays None."""
    if side is None:
        return None
    return -(-side // strides)
