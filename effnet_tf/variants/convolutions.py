"""Which convolutions does a network consist of, block by block?

The only description of them: the cost is a sum over it, the layers are built from it, and
weights files are recognised by it. A new kind of block is one more function in `KINDS`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

# What batch norm can do in training; `effnet_tf.BatchNorm` explains each.
BATCH_NORM_MODES = ("trainable", "inference", "frozen")
# builder, efficientnet_builder.py: batch_norm_momentum, batch_norm_epsilon.
BATCH_NORM_MOMENTUM = 0.99
BATCH_NORM_EPSILON = 1e-3
# "same": TensorFlow's SAME, which on even sides puts fewer zeros before a map than after it, or
# none. "symmetric": PyTorch's padding=k // 2 * dilation, the same zeros on every side.
PADDINGS = ("same", "symmetric")


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

    @property
    def explicit_padding(self) -> int:
        """Zeros to put on every side of the input, in pixels; 0 where "same" does what is needed.

        At stride 1 "same" is symmetric itself, kernels being odd (`resolve` sees to it).
        """
        if self.padding == "same" or self.strides == 1:
            return 0
        return self.kernel_size // 2 * self.dilation_rate

    @property
    def use_bias(self) -> bool:
        """Whether it has a bias: batch norm, where there is one, has its own."""
        return self.batch_norm is None

    @property
    def activation_name(self) -> str:
        """What the activation after the batch norm is called: "expand_activation"."""
        return str(self.batch_norm).replace("bn", "activation")

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """The shape of the kernel in Keras: (k, k, in, out), (k, k, in, 1) or (in, out)."""
        if self.kind == "dense":
            return (self.input_filters, self.filters)
        if self.kind == "depthwise":
            return (self.kernel_size, self.kernel_size, self.input_filters, 1)
        return (self.kernel_size, self.kernel_size, self.input_filters, self.filters)

    @property
    def trainable_parameters(self) -> int:
        """Kernel, and bias or the batch norm's gamma and beta."""
        vectors = 1 if self.use_bias else 2
        return math.prod(self.kernel_shape) + vectors * self.filters

    @property
    def parameters(self) -> int:
        """All variables, moving mean and variance of the batch norm included."""
        if self.use_bias:
            return self.trainable_parameters
        return self.trainable_parameters + 2 * self.filters

    def output_side(self, side: int) -> int:
        """Returns the side of the output, in pixels, for a square input of this side."""
        if self.pooled:
            return 1
        return -(-side // self.strides)  # rounded up, however it is padded

    def multiply_adds(self, side: int) -> int:
        """Returns the multiply-adds, without the bias, for a square input of this side."""
        return math.prod(self.kernel_shape) * self.output_side(side) ** 2


def describe_squeeze_excite(
    filters: int, squeezed: int, activation: str
) -> tuple[Convolution, ...]:
    """Returns the two convolutions of squeeze-and-excite on a map of `filters` channels."""
    return (
        Convolution("se/reduce", "full", filters, squeezed, activation=activation, pooled=True),
        Convolution("se/expand", "full", squeezed, filters, activation="sigmoid", pooled=True),
    )


def _squeeze_excite(filters, se_filters, activation):
    if not se_filters:
        return ()
    return describe_squeeze_excite(filters, se_filters, activation)


def _ending(hidden, filters, se_filters, activation, project_activation=None):
    """What most kinds of block end with: squeeze-and-excite, and a projection."""
    project = Convolution(
        "project_conv",
        "full",
        hidden,
        filters,
        batch_norm="project_bn",
        activation=project_activation,
    )
    return (*_squeeze_excite(hidden, se_filters, activation), project)


def describe_mbconv(
    input_filters: int,
    expanded_filters: int,
    filters: int,
    *,
    kernel_size: int = 3,
    strides: int = 1,
    dilation_rate: int = 1,
    se_filters: int = 0,
    activation: str = "swish",
    project_activation: str | None = None,
    padding: str = "same",
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a mobile inverted bottleneck, in order.

    A 1x1 convolution expands (unless the hidden channels are those of the input), a depthwise
    one follows, then squeeze-and-excite, and a 1x1 convolution projects.

    Args:
        input_filters: channels of the block's input.
        expanded_filters: hidden channels.
        filters: channels of its output.
        kernel_size: side of the depthwise kernel, in pixels.
        strides: of the depthwise convolution, 1 or 2.
        dilation_rate: spacing of the depthwise kernel's taps, in pixels.
        se_filters: channels after the squeeze; 0 for no squeeze-and-excite.
        activation: name of the block's activation.
        project_activation: name of that after the projection; None: it is linear.
        padding: of the depthwise convolution, one of `PADDINGS`.
    """
    depthwise = Convolution(
        "dwconv",
        "depthwise",
        expanded_filters,
        expanded_filters,
        kernel_size,
        strides,
        dilation_rate,
        batch_norm="bn",
        activation=activation,
        padding=padding,
    )
    ending = _ending(expanded_filters, filters, se_filters, activation, project_activation)
    if expanded_filters == input_filters:
        return (depthwise, *ending)
    expand = Convolution(
        "expand_conv",
        "full",
        input_filters,
        expanded_filters,
        batch_norm="expand_bn",
        activation=activation,
    )
    return (expand, depthwise, *ending)


def describe_fused_mbconv(
    input_filters: int,
    expanded_filters: int,
    filters: int,
    *,
    kernel_size: int = 3,
    strides: int = 1,
    dilation_rate: int = 1,
    se_filters: int = 0,
    activation: str = "swish",
    project_activation: str | None = None,
    padding: str = "same",
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a fused block, in order.

    A full convolution takes the place of the expanding and the depthwise one, always, and
    carries the kernel size, the strides, the dilation and the padding. The arguments are those of
    `describe_mbconv`.
    """
    expand = Convolution(
        "expand_conv",
        "full",
        input_filters,
        expanded_filters,
        kernel_size,
        strides,
        dilation_rate,
        batch_norm="expand_bn",
        activation=activation,
        padding=padding,
    )
    ending = _ending(expanded_filters, filters, se_filters, activation, project_activation)
    return (expand, *ending)


def describe_separable(
    input_filters: int, expanded_filters: int, filters: int, **options: Any
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a depthwise separable block, in order.

    A depthwise convolution, squeeze-and-excite, and a 1x1 convolution, with an activation
    (MobileNetV1: arXiv 1704.04861) or linear (the SepConv of MnasNet: arXiv 1807.11626).
    The arguments are those of `describe_mbconv`; nothing expands.
    """
    del expanded_filters
    return describe_mbconv(input_filters, input_filters, filters, **options)


def describe_conv(
    input_filters: int,
    expanded_filters: int,
    filters: int,
    *,
    kernel_size: int = 3,
    strides: int = 1,
    dilation_rate: int = 1,
    se_filters: int = 0,
    activation: str = "swish",
    project_activation: str | None = None,
    padding: str = "same",
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a block of one full convolution, in order.

    It has an activation, and squeeze-and-excite may follow. The arguments are those of
    `describe_mbconv`; nothing expands. The name is that of other blocks' last convolution, by
    which files and programs know where a block ends.
    """
    del expanded_filters, project_activation
    conv = Convolution(
        "project_conv",
        "full",
        input_filters,
        filters,
        kernel_size,
        strides,
        dilation_rate,
        batch_norm="project_bn",
        activation=activation,
        padding=padding,
    )
    return (conv, *_squeeze_excite(filters, se_filters, activation))


# By the kind of a `Block`: what it consists of.
KINDS: dict[str, Callable[..., tuple[Convolution, ...]]] = {
    "mbconv": describe_mbconv,
    "fused_mbconv": describe_fused_mbconv,
    "separable": describe_separable,
    "conv": describe_conv,
}


def _names_inside():
    names = []
    for describe in KINDS.values():
        for convolution in describe(1, 2, 1, se_filters=1):
            names += [convolution.name, convolution.batch_norm]
    return tuple(name for name in dict.fromkeys(names) if name)


# The names that the layers of a block can have, of whatever kind it is.
NAMES_INSIDE = _names_inside()
