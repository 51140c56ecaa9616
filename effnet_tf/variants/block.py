"""What is a block once all its numbers are known?

Sources: see `rows.py`.
"""

import dataclasses

from effnet_tf.errors import InputError
from effnet_tf.variants.convolutions import Convolution, describe_experts
from effnet_tf.variants.kinds import KINDS
from effnet_tf.variants.layer_names import block_letter
from effnet_tf.variants.rounding import round_filters, scaled_stages
from effnet_tf.variants.rows import STAGE_KINDS, Variant

_BOTTLENECKS = ("bottleneck", "bottleneck_b")


@dataclasses.dataclass(frozen=True)
class Block:
    """One block, every number resolved.

    Attributes:
        name: `block` + stage + letter, as in keras.applications ("block2a").
        stage: 1-based index of its stage.
        kind: what it is, a key of `KINDS`: "mbconv", "fused_mbconv", "separable", "conv",
            "bottleneck", "bottleneck_b".
        kernel_size: side of the kernel, in pixels (fused: of the expansion).
        strides: 1 or 2.
        input_filters: channels that really enter the block.
        expanded_filters: hidden channels; equal to `input_filters` where there is no
            expansion (an MBConv of expand_ratio 1, other kinds).
        se_filters: squeeze width, 0 for no squeeze-and-excite.
        filters: output channels.
        skip: whether the input is added to the output.
        drop_connect_rate: probability that the residual branch of an image is
            dropped in training, in [0, 1).
        reduction: i if this block's output is the endpoint `reduction_i`, else None.
        dilation_rate: spacing of the (depthwise) kernel's taps, in pixels.
        activation: name of the block's activation.
        project_activation: name of that after the last convolution, None for none; a "conv"
            has the block's, a bottleneck after the sum.
        se_activation: name of that after the squeeze; None for the block's.
        se_gate: name of that of the excitation.
        padding: of the (depthwise) convolution, one of `PADDINGS`.
        bias: whether its convolutions have a bias although batch norm follows.
        experts: kernels of which each convolution mixes its own for each image; 0 for one kernel.
    """

    name: str
    stage: int
    kind: str
    kernel_size: int
    strides: int
    input_filters: int
    expanded_filters: int
    se_filters: int
    filters: int
    skip: bool
    drop_connect_rate: float
    reduction: int | None
    dilation_rate: int = 1
    activation: str = "swish"
    project_activation: str | None = None
    se_activation: str | None = None
    se_gate: str = "sigmoid"
    padding: str = "same"
    bias: bool = False
    experts: int = 0

    @property
    def fused(self) -> bool:
        """Whether a full convolution expands, instead of 1x1 and depthwise."""
        return self.kind == "fused_mbconv"

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The block's convolutions, in order, by their names inside it."""
        described = KINDS[self.kind](
            self.input_filters,
            self.expanded_filters,
            self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            se_filters=self.se_filters,
            activation=self.activation,
            project_activation=self.project_activation,
            se_activation=self.se_activation,
            se_gate=self.se_gate,
            padding=self.padding,
        )
        if self.bias:
            described = tuple(dataclasses.replace(each, bias=True) for each in described)
        if self.experts:
            described = describe_experts(described, self.experts)
        return described


def resolve_blocks(
    variant: Variant, stem: Convolution, drop_connect_rate: float, output_stride: int
) -> tuple[Block, ...]:
    """Returns the blocks of a variant that follow the stem; see `blocks`."""
    plain = _plain_blocks(variant, stem.filters)
    stride = stem.strides
    if stem.pool_size:
        stride *= 2
    return _dilated(_with_endpoints(plain, drop_connect_rate, stride), output_stride, stride)


def _plain_blocks(variant, channels):
    """Returns the blocks that follow `channels` channels, but for their endpoints and rates."""
    found = []
    for number, (stage, repeats) in enumerate(scaled_stages(variant), start=1):
        for repeat in range(repeats):
            found.append(_block(variant, stage, number, repeat, channels))
            channels = stage.filters
    return found


def _block(variant, stage, number, repeat, real_input):
    """Resolves one block, but for what depends on its neighbours."""
    kind = _kind(variant, stage, number)
    declared_input, strides = stage.input_filters, stage.strides
    if repeat:
        declared_input, strides = stage.filters, 1
    keeps_shape = strides == 1 and declared_input == stage.filters
    expanded = _expanded(stage, declared_input, real_input)
    activation = stage.activation or variant.activation
    return Block(
        name=f"block{number}{block_letter(repeat)}",
        stage=number,
        kind=kind,
        kernel_size=stage.kernel_size,
        strides=strides,
        input_filters=real_input,
        expanded_filters=expanded,
        se_filters=_squeezed(variant, stage, declared_input, expanded),
        filters=stage.filters,
        # What a bottleneck adds has the right shape, see `describe_bottleneck`.
        skip=stage.skip and (keeps_shape or kind in _BOTTLENECKS),
        drop_connect_rate=0.0,
        reduction=None,
        activation=activation,
        project_activation=activation if stage.project_activation else None,
        se_activation=variant.se_activation,
        se_gate=variant.se_gate,
        padding=variant.padding,
        bias=variant.conv_bias,
        experts=stage.experts,
    )


def _expanded(stage, declared_input, real_input):
    """Returns the hidden channels of a block of a stage, a multiple of 8."""
    if stage.kind in _BOTTLENECKS:
        return round_filters(stage.filters, stage.expand_ratio)
    if stage.expand_ratio == 1 and not stage.fused:
        return real_input
    # Expansion counts from the declared channels (builder: block_args.input_filters), which differ
    # from the real ones only in EdgeTPU's first block. What is no whole number of times as many is
    # rounded (MobileNetV3; keras/src/applications/mobilenet_v3.py: _depth).
    return round_filters(declared_input, stage.expand_ratio)


def _kind(variant, stage, number):
    """Returns the kind of a stage's blocks, as a key of `KINDS`."""
    where = f"Stage {number} of variant '{variant.name}'"
    if stage.kind not in STAGE_KINDS:
        known = ", ".join(map(repr, STAGE_KINDS))
        raise InputError(f"{where} is of kind {stage.kind!r}; it must be one of {known}.")
    if stage.kind == "mbconv":
        return "fused_mbconv" if stage.fused else "mbconv"
    if stage.kind in _BOTTLENECKS and not stage.skip:
        raise InputError(f"{where} is of kind '{stage.kind}', which always has a skip.")
    expands = stage.expand_ratio != 1 and stage.kind not in _BOTTLENECKS
    if stage.fused or expands:
        raise InputError(
            f"{where} is of kind '{stage.kind}', of which nothing expands: its expand_ratio must "
            f"be 1, and not {stage.expand_ratio}, and fused must be false."
        )
    return stage.kind


def _squeezed(variant, stage, declared_input, expanded):
    """Returns the width of squeeze-and-excite in a block of a stage; 0 for none."""
    ratio = variant.se_ratio if stage.se_ratio is None else stage.se_ratio
    if not ratio:
        return 0
    if variant.se_from_expanded:
        return max(8, round_filters(expanded, ratio))
    return max(1, int(declared_input * ratio))


def _with_endpoints(plain, drop_connect_rate, stride):
    """Returns blocks that know their rate of drop-connect, and which endpoint they give.

    Endpoint i has the stride 2**i; where no block has one of them, the stem does.
    """
    found = []
    for index, block in enumerate(plain):
        stride *= block.strides
        rate, endpoint = 0.0, None
        if block.skip:
            rate = drop_connect_rate * index / len(plain)
        # The last block before each stride, and the last of all.
        if index + 1 == len(plain) or plain[index + 1].strides > 1:
            endpoint = stride.bit_length() - 1
        found.append(dataclasses.replace(block, drop_connect_rate=rate, reduction=endpoint))
    return found


def _dilated(plain, output_stride, stride):
    """Returns blocks after a `stride` whose strides beyond `output_stride` are dilations."""
    if output_stride not in (8, 16, 32):
        raise InputError(f"output_stride is {output_stride}; it must be 8, 16 or 32.")
    dilated, dilation = [], 1
    for block in plain:
        if stride * block.strides > output_stride:
            # The block that loses its stride still sees a map of the old spacing.
            dilated.append(dataclasses.replace(block, strides=1, dilation_rate=dilation))
            dilation *= block.strides
        else:
            dilated.append(dataclasses.replace(block, dilation_rate=dilation))
            stride *= block.strides
    return tuple(dilated)
