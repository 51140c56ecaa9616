"""What is a convolution of a network, in plain numbers?

`kinds.py` says which of them a block consists of.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

# What batch norm can do in training; `effnet_tf.BatchNorm` explains each.
BATCH_NORM_MODES = ("trainable", "inference", "frozen")
# builder, efficientnet_builder.py: batch_norm_momentum, batch_norm_epsilon.
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3
# "same": TensorFlow's SAME, which on even sides puts fewer zeros before a map than after it, or
# none. "symmetric": PyTorch's padding=k // 2 * dilation, the same zeros on every side. "even": what
# SAME puts on even sides, whatever the side is (keras.applications' MobileNet, mobilenet.py).
PADDINGS = ("same", "symmetric", "even")
# What the dense layer is called that weighs the experts of a block.
ROUTING = "routing"


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution or dense layer, with its bias or batch norm and its activation.

    Attributes:
        name: inside its block, such as "expand_conv" or "se/reduce"; in a network
            "blocks_3/expand_conv", with the blocks counted from 0.
        kind: "full", "depthwise" (one kernel per channel) or "dense".
        input_filters: channels in.
        filters: channels out; of a dense layer, classes.
        kernel_size: side of the kernel, in pixels.
        strides: 1 or 2.
        dilation_rate: spacing of the kernel's taps, in pixels.
        batch_norm: name of the batch norm that follows; None where there is a bias instead.
        activation: name of the activation that follows; None for none.
        pooled: whether the input is the mean over the whole map, a single pixel.
        padding: one of `PADDINGS`.
        bias: whether it has a bias although batch norm follows, as in ResNet.
        pool_size: side of the windows, at strides of 2, whose maximum is taken after the
            activation; 0 for none.
        shortcut: whether it takes the input of its block on the way to the sum, beside all others.
        after_sum: whether its activation waits for the sum at the end of its block.
        experts: kernels of which it mixes its own for each image, see `describe_experts`; 0 where
            it has one kernel for all images.
    """

    name: str
    kind: Literal["full", "depthwise", "dense"]
    input_filters: int
    filters: int
    kernel_size: int = 1
    strides: int = 1
    dilation_rate: int = 1
    batch_norm: str | None = None
    activation: str | None = None
    pooled: bool = False
    padding: str = "same"
    bias: bool = False
    pool_size: int = 0
    shortcut: bool = False
    after_sum: bool = False
    experts: int = 0

    @property
    def explicit_padding(self) -> tuple[int, int]:
        """Zeros to put (before, after) the input in height and width, in pixels.

        (0, 0) where "same" does what is needed. At stride 1 it is symmetric itself, kernels being
        odd (`resolve` sees to it).
        """
        if self.padding == "same" or self.strides == 1:
            return 0, 0
        if self.padding == "even":
            zeros = max(self.kernel_size - self.strides, 0)
            return zeros // 2, zeros - zeros // 2
        return (self.kernel_size // 2 * self.dilation_rate,) * 2

    @property
    def use_bias(self) -> bool:
        """Whether it has a bias: batch norm, where there is one, mostly has the only one."""
        return self.bias or self.batch_norm is None

    @property
    def activation_name(self) -> str:
        """What the activation after the batch norm is called: "expand_activation"."""
        return str(self.batch_norm).replace("bn", "activation")

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """The shape of the kernel in Keras: (k, k, in, out), (k, k, in, 1) or (in, out).

        Of experts (experts, numbers): a row is the kernel of one, in C order.
        """
        if self.experts:
            return (self.experts, math.prod(self.mixed_shape))
        return self.mixed_shape

    @property
    def mixed_shape(self) -> tuple[int, ...]:
        """The shape of the kernel that an image is convolved with, whatever it is mixed of."""
        if self.kind == "dense":
            return (self.input_filters, self.filters)
        if self.kind == "depthwise":
            return (self.kernel_size, self.kernel_size, self.input_filters, 1)
        return (self.kernel_size, self.kernel_size, self.input_filters, self.filters)

    @property
    def trainable_parameters(self) -> int:
        """Kernel, and bias or the batch norm's gamma and beta."""
        vectors = int(self.use_bias) + 2 * (self.batch_norm is not None)
        return math.prod(self.kernel_shape) + vectors * self.filters

    @property
    def parameters(self) -> int:
        """All variables, moving mean and variance of the batch norm included."""
        if self.batch_norm is None:
            return self.trainable_parameters
        return self.trainable_parameters + 2 * self.filters

    def output_side(self, side: int) -> int:
        """Returns the side of the output, in pixels, for a square input of this side."""
        if self.pooled:
            return 1
        if any(self.explicit_padding) and self.padding == "even":
            return side // self.strides
        return -(-side // self.strides)  # rounded up, however else it is padded

    def pooled_side(self, side: int) -> int:
        """Returns the side of what follows, in pixels: the output, or the maxima of it."""
        side = self.output_side(side)
        if self.pool_size:
            side = -(-side // 2)
        return side

    def multiply_adds(self, side: int) -> int:
        """Returns the multiply-adds, without the bias, for a square input of this side.

        Those of `mixing` come on top.
        """
        return math.prod(self.mixed_shape) * self.output_side(side) ** 2

    @property
    def mixing(self) -> int:
        """Multiply-adds of making an image's kernel of those of the experts; 0 without experts."""
        return self.experts * self.mixed

    @property
    def mixed(self) -> int:
        """Numbers of the kernel that is made for each image; 0 without experts."""
        return math.prod(self.mixed_shape) if self.experts else 0

    @property
    def routes(self) -> bool:
        """Whether it is no part of the map's way, but weighs the experts of its block."""
        return self.name.rpartition("/")[2] == ROUTING


def describe_squeeze_excite(
    filters: int, squeezed: int, activation: str, gate: str = "sigmoid"
) -> tuple[Convolution, ...]:
    """Returns the two convolutions of squeeze-and-excite on a map of `filters` channels."""
    return (
        Convolution("se/reduce", "full", filters, squeezed, activation=activation, pooled=True),
        Convolution("se/expand", "full", squeezed, filters, activation=gate, pooled=True),
    )


def describe_experts(described: Sequence[Convolution], experts: int) -> tuple[Convolution, ...]:
    """Returns the convolutions of a block whose kernels are mixed of experts, for each image.

    CondConv (Yang et al., arXiv 1904.04971): a dense layer on the mean of the block's input, whose
    sigmoids are the weights of the experts, comes first; all convolutions of the block share them
    (tensorflow/tpu models/official/efficientnet/condconv). Squeeze-and-excite stays as it is.

    Args:
        described: of the block, in order.
        experts: kernels of each convolution, at least 1.
    """
    routing = Convolution(
        ROUTING, "dense", described[0].input_filters, experts, activation="sigmoid", pooled=True
    )
    mixed = [
        each if each.pooled else dataclasses.replace(each, experts=experts) for each in described
    ]
    return (routing, *mixed)
