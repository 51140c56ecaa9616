"""Which convolutions does a block consist of, by its kind?

The only description of them: the cost is a sum over it, the layers are built from it, and
weights files are recognised by it. A new kind of block is one more function in `KINDS`. Sources:
  MobileNetV1  Howard et al., arXiv 1704.04861.
  MnasNet      Tan et al., arXiv 1807.11626: its SepConv and its Conv.
  ResNet       He et al., arXiv 1512.03385; ResNet-B of arXiv 1812.01187 (torchvision's ResNet).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from effnet_tf.variants.convolutions import Convolution, describe_experts, describe_squeeze_excite


def _squeeze_excite(filters, se_filters, activation, se_activation, se_gate):
    if not se_filters:
        return ()
    return describe_squeeze_excite(filters, se_filters, se_activation or activation, se_gate)


def _projection(input_filters, filters, activation, after_sum=False):
    """The last convolution of most kinds of block, 1x1."""
    return Convolution(
        "project_conv",
        "full",
        input_filters,
        filters,
        batch_norm="project_bn",
        activation=activation,
        after_sum=after_sum,
    )


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
    se_activation: str | None = None,
    se_gate: str = "sigmoid",
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
        se_activation: name of that after the squeeze; None for the block's.
        se_gate: name of that of the excitation.
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
    ending = (
        *_squeeze_excite(expanded_filters, se_filters, activation, se_activation, se_gate),
        _projection(expanded_filters, filters, project_activation),
    )
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
    se_activation: str | None = None,
    se_gate: str = "sigmoid",
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
    return (
        expand,
        *_squeeze_excite(expanded_filters, se_filters, activation, se_activation, se_gate),
        _projection(expanded_filters, filters, project_activation),
    )


def describe_separable(
    input_filters: int, expanded_filters: int, filters: int, **options: Any
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a depthwise separable block, in order.

    A depthwise convolution, squeeze-and-excite, and a 1x1 convolution, with an activation
    (MobileNetV1) or linear (MnasNet). The arguments are those of `describe_mbconv`; nothing
    expands.
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
    se_activation: str | None = None,
    se_gate: str = "sigmoid",
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
    return (conv, *_squeeze_excite(filters, se_filters, activation, se_activation, se_gate))


def describe_bottleneck(
    input_filters: int,
    expanded_filters: int,
    filters: int,
    *,
    kernel_size: int = 3,
    strides: int = 1,
    dilation_rate: int = 1,
    se_filters: int = 0,
    activation: str = "relu",
    project_activation: str | None = None,
    se_activation: str | None = None,
    se_gate: str = "sigmoid",
    padding: str = "same",
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a residual bottleneck, in order.

    A 1x1 convolution reduces and carries the strides, a full one follows, then
    squeeze-and-excite, and a 1x1 convolution widens again; its activation comes after the sum.
    What is added is the block's input; where the block changes the shape, a 1x1 convolution of
    it, which is the first of all. The arguments are those of `describe_mbconv`, with
    `expanded_filters` the hidden channels, which are fewer here.
    """
    del project_activation
    found = []
    if strides > 1 or input_filters != filters:
        found.append(_shortcut(input_filters, filters, strides))
    reduce = Convolution(
        "reduce_conv",
        "full",
        input_filters,
        expanded_filters,
        strides=strides,
        batch_norm="reduce_bn",
        activation=activation,
        padding=padding,
    )
    middle = Convolution(
        "middle_conv",
        "full",
        expanded_filters,
        expanded_filters,
        kernel_size,
        dilation_rate=dilation_rate,
        batch_norm="middle_bn",
        activation=activation,
        padding=padding,
    )
    found += [reduce, middle]
    found += _squeeze_excite(expanded_filters, se_filters, activation, se_activation, se_gate)
    return (*found, _projection(expanded_filters, filters, activation, after_sum=True))


def _shortcut(input_filters, filters, strides):
    return Convolution(
        "shortcut_conv",
        "full",
        input_filters,
        filters,
        strides=strides,
        batch_norm="shortcut_bn",
        shortcut=True,
    )


def describe_bottleneck_b(
    input_filters: int, expanded_filters: int, filters: int, *, strides: int = 1, **options: Any
) -> tuple[Convolution, ...]:
    """Returns the convolutions of a residual bottleneck whose full convolution has the strides.

    ResNet-B, which torchvision, timm and TPUs' ResNet-50 are; else as `describe_bottleneck`.
    """
    found = describe_bottleneck(
        input_filters, expanded_filters, filters, strides=strides, **options
    )
    moved = {"reduce_conv": 1, "middle_conv": strides}
    return tuple(
        dataclasses.replace(each, strides=moved.get(each.name, each.strides)) for each in found
    )


# By the kind of a `Block`: what it consists of.
KINDS: dict[str, Callable[..., tuple[Convolution, ...]]] = {
    "mbconv": describe_mbconv,
    "fused_mbconv": describe_fused_mbconv,
    "separable": describe_separable,
    "conv": describe_conv,
    "bottleneck": describe_bottleneck,
    "bottleneck_b": describe_bottleneck_b,
}


def _names_inside():
    names = []
    for describe in KINDS.values():
        for convolution in describe_experts(describe(1, 2, 3, se_filters=1), 1):
            names += [convolution.name, convolution.batch_norm]
    return tuple(name for name in dict.fromkeys(names) if name)


# The names that the layers of a block can have, of whatever kind it is.
NAMES_INSIDE = _names_inside()
