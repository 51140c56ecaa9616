"""What does a layer know of the shapes of its input and output?"""

from effnet_tf.errors import InputError
from effnet_tf.variants import Convolution

Shape = tuple[int | None, ...]  # None: not known before there are images


def channels_of(shape: Shape) -> int:
    """Returns the last side of a shape, which kernels cannot do without.

    Raises:
        InputError: it is not known.
    """
    if not shape or shape[-1] is None:
        raise InputError(f"The input shape is {shape}; its last side, the channels, must be known.")
    return int(shape[-1])


def output_side(side: int | None, convolution: Convolution) -> int | None:
    """Returns the side of a convolution's output; None stays None."""
    if side is None:
        return None
    return convolution.output_side(side)


def same_padding(
    side: int, kernel_size: int, strides: int, dilation_rate: int = 1
) -> tuple[int, int]:
    """Returns the zeros (before, after) that TensorFlow's SAME puts around a side, in pixels."""
    reach = (kernel_size - 1) * dilation_rate + 1
    steps = -(-side // strides)
    zeros = max((steps - 1) * strides + reach - side, 0)
    return zeros // 2, zeros - zeros // 2
