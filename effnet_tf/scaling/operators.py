"""Which operators does a part of a network become in a TFLite file?

The names are TFLite's. What is folded into its neighbours (batch norm, biases, ReLU) is none; the
pixels' constants and the softmax at the ends take no time that could be measured.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from effnet_tf.variants import Convolution, Network, count_part

MAX_POOL = "MAX_POOL_2D"
CONVOLUTIONS = {"full": "CONV_2D", "depthwise": "DEPTHWISE_CONV_2D", "dense": "FULLY_CONNECTED"}
# What follows a convolution as operators of its own.
ACTIVATIONS = {
    "swish": ("LOGISTIC", "MUL"),
    "sigmoid": ("LOGISTIC",),
    "hard_swish": ("HARD_SWISH",),
    "hard_sigmoid": ("MUL",),  # relu6(x + 3) is in the convolution, and then a sixth is taken
    "relu": (),
    "relu6": (),
    None: (),
}


class Operator(NamedTuple):
    """One operator on one square map.

    Attributes:
        kind: TFLite's name.
        kernel_size: side of the kernel, in pixels; 1 where there is none.
        strides: 1 or 2.
        input_filters: channels in.
        filters: channels out.
        side: of the input, in pixels.
    """

    kind: str
    kernel_size: int
    strides: int
    input_filters: int
    filters: int
    side: int

    @property
    def work(self) -> int:
        """Multiply-adds of a convolution; of the others, numbers that they read."""
        if self.kind not in CONVOLUTIONS.values():
            return self.input_filters * self.side**2
        made = self.filters * (-(-self.side // self.strides)) ** 2
        if self.kind == "DEPTHWISE_CONV_2D":
            return made * self.kernel_size**2
        return made * self.kernel_size**2 * self.input_filters

    @property
    def weights(self) -> int:
        """Numbers in its kernel; 0 where it has none."""
        if self.kind == "DEPTHWISE_CONV_2D":
            return self.filters * self.kernel_size**2
        if self.kind in CONVOLUTIONS.values():
            return self.input_filters * self.filters * self.kernel_size**2
        return 0


def operators_of(convolutions: Sequence[Convolution], skip: bool, side: int) -> Iterator[Operator]:
    """Yields the operators of the stem, of a block, or of the head and the classifier.

    Args:
        convolutions: in order.
        skip: whether their input is added to their output.
        side: of their input, in pixels.
    """
    filters, pooled = convolutions[0].input_filters, False
    for convolution in convolutions:
        if convolution.pooled and not pooled:
            yield _plain("MEAN", filters, side)
        elif pooled and not convolution.pooled:
            yield _plain("MUL", filters, side)  # by the excitation
        pooled = convolution.pooled
        yield from _with_activation(convolution, 1 if pooled else side)
        if convolution.pool_size:
            size, made = convolution.pool_size, convolution.filters
            yield Operator(MAX_POOL, size, 2, made, made, convolution.output_side(side))
        if not pooled and not convolution.shortcut:
            filters, side = convolution.filters, convolution.pooled_side(side)
    if pooled and convolution.kind != "dense":
        yield _plain("MUL", filters, side)  # the excitation may come last
    if skip:
        yield _plain("ADD", filters, side)
        if convolutions[-1].after_sum:
            yield from _activation(convolutions[-1], side)


def operators_of_network(network: Network) -> Iterator[Operator]:
    """Yields the operators of a whole network, in order."""
    side = network.side
    for convolutions, skip in network.parts():
        yield from operators_of(convolutions, skip, side)
        side = count_part(convolutions, side, skip).side


def _with_activation(convolution, side):
    yield Operator(
        CONVOLUTIONS[convolution.kind],
        convolution.kernel_size,
        convolution.strides,
        convolution.input_filters,
        convolution.filters,
        side,
    )
    if not convolution.after_sum:
        yield from _activation(convolution, convolution.output_side(side))


def _activation(convolution, side):
    for kind in ACTIVATIONS[convolution.activation]:
        yield _plain(kind, convolution.filters, side)


def _plain(kind, filters, side):
    return Operator(kind, 1, 1, filters, filters, side)
