"""What is a block once all its numbers are known?

Sources: see `rows.py`.
"""

import dataclasses

from effnet_tf.errors import InputError
from effnet_tf.variants.convolutions import KINDS, Convolution
from effnet_tf.variants.layer_names import block_letter
from effnet_tf.variants.rounding import scaled_stages
from effnet_tf.variants.rows import STAGE_KINDS, Variant


@dataclasses.dataclass(frozen=True)
class Block:
    """One block, every number resolved.

    Attributes:
        name: `block` + stage + letter, as in keras.applications ("block2a").
        stage: 1-based index of its stage.
        kind: what it is, a key of `KINDS`: "mbconv", "fused_mbconv", "separable", "conv".
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
            has the block's.
        padding: of the (depthwise) convolution, one of `PADDINGS`.
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
    padding: str = "same"

    @property
    def fused(self) -> bool:
        """Whether a full convolution expands, instead of 1x1 and depthwise."""
        return self.kind == "fused_mbconv"

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The block's convolutions, in order, by their names inside it."""
        return KINDS[self.kind](
            self.input_filters,
            self.expanded_filters,
            self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            se_filters=self.se_filters,
            activation=self.activation,
            project_activation=self.project_activation,
            padding=self.padding,
        )


def resolve_blocks(
    variant: Variant, channels: int, drop_connect_rate: float, output_stride: int
) -> tuple[Block, ...]:
    """Returns the blocks of a variant that follow `channels` channels; see `blocks`."""
    plain = _plain_blocks(variant, channels)
    return _dilated(_with_endpoints(plain, drop_connect_rate), output_stride)


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
    # Expansion counts from the declared channels (builder: block_args.input_filters),
    # which differ from the real ones only in EdgeTPU's first block.
    expanded = declared_input * stage.expand_ratio
    if stage.expand_ratio == 1 and not stage.fused:
        expanded = real_input
    activation = stage.activation or variant.activation
    return Block(
        name=f"block{number}{block_letter(repeat)}",
        stage=number,
        kind=kind,
        kernel_size=stage.kernel_size,
        strides=strides,
        input_filters=real_input,
        expanded_filters=expanded,
        se_filters=_squeezed(variant, stage, declared_input),
        filters=stage.filters,
        skip=stage.skip and strides == 1 and declared_input == stage.filters,
        drop_connect_rate=0.0,
        reduction=None,
        activation=activation,
        project_activation=activation if stage.project_activation else None,
        padding=variant.padding,
    )


def _kind(variant, stage, number):
    """Returns the kind of a stage's blocks, as a key of `KINDS`."""
    where = f"Stage {number} of variant '{variant.name}'"
    if stage.kind not in STAGE_KINDS:
        known = ", ".join(map(repr, STAGE_KINDS))
        raise InputError(f"{where} is of kind {stage.kind!r}; it must be one of {known}.")
    if stage.kind == "mbconv":
        return "fused_mbconv" if stage.fused else "mbconv"
    if stage.fused or stage.expand_ratio != 1:
        raise InputError(
            f"{where} is of kind '{stage.kind}', of which nothing expands: its expand_ratio must "
            f"be 1, and not {stage.expand_ratio}, and fused must be false."
        )
    return stage.kind


def _squeezed(variant, stage, declared_input):
    """Returns the width of squeeze-and-excite in a block of a stage; 0 for none."""
    ratio = variant.se_ratio if stage.se_ratio is None else stage.se_ratio
    if not ratio:
        return 0
    return max(1, int(declared_input * ratio))


def _with_endpoints(plain, drop_connect_rate):
    """Returns blocks that know their rate of drop-connect, and which endpoint they give."""
    found, reduction = [], 0
    for index, block in enumerate(plain):
        rate, endpoint = 0.0, None
        if block.skip:
            rate = drop_connect_rate * index / len(plain)
        # The last block before each stride, and the last of all.
        if index + 1 == len(plain) or plain[index + 1].strides > 1:
            reduction += 1
            endpoint = reduction
        found.append(dataclasses.replace(block, drop_connect_rate=rate, reduction=endpoint))
    return found


def _dilated(plain, output_stride):
    """Returns blocks whose strides beyond `output_stride` are dilations instead."""
    if output_stride not in (8, 16, 32):
        raise InputError(f"output_stride is {output_stride}; it must be 8, 16 or 32.")
    dilated, stride, dilation = [], 2, 1  # the stem's stride
    for block in plain:
        if stride * block.strides > output_stride:
            # The block that loses its stride still sees a map of the old spacing.
            dilated.append(dataclasses.replace(block, strides=1, dilation_rate=dilation))
            dilation *= block.strides
        else:
            dilated.append(dataclasses.replace(block, dilation_rate=dilation))
            stride *= block.strides
    return tuple(dilated)
