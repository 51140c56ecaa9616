"""What is a variant once all its numbers are known?

`resolve` does all the arithmetic, and its `Network` is what models, costs, weights files and
exports read: none of them asks a variant again. Sources: see `rows.py`.
"""

import dataclasses

from effnet_tf.errors import InputError
from effnet_tf.variants.convolutions import Convolution, describe_fused_mbconv, describe_mbconv
from effnet_tf.variants.layer_names import block_letter
from effnet_tf.variants.rounding import scaled_stages, stem_and_head_filters
from effnet_tf.variants.rows import Variant, normalization
from effnet_tf.variants.table import find_variant

MIN_RESOLUTION = 32  # five strides of 2: a smaller image has less than one output pixel


@dataclasses.dataclass(frozen=True)
class Block:
    """One MBConv or FusedMBConv block, every number resolved.

    Attributes:
        name: `block` + stage + letter, as in keras.applications ("block2a").
        stage: 1-based index of its stage.
        fused: FusedMBConv instead of MBConv.
        kernel_size: side of the kernel, in pixels (fused: of the expansion).
        strides: 1 or 2.
        input_filters: channels that really enter the block.
        expanded_filters: hidden channels; for MBConv equal to `input_filters`
            when there is no expansion (expand_ratio 1).
        se_filters: squeeze width, 0 for no squeeze-and-excite.
        filters: output channels.
        skip: whether the input is added to the output.
        drop_connect_rate: probability that the residual branch of an image is
            dropped in training, in [0, 1).
        reduction: i if this block's output is the endpoint `reduction_i`, else None.
        dilation_rate: spacing of the (depthwise) kernel's taps, in pixels.
        activation: name of the block's activation.
    """

    name: str
    stage: int
    fused: bool
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

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """The block's convolutions, in order, by their names inside it."""
        describe = describe_fused_mbconv if self.fused else describe_mbconv
        return describe(
            self.input_filters,
            self.expanded_filters,
            self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            dilation_rate=self.dilation_rate,
            se_filters=self.se_filters,
            activation=self.activation,
        )


@dataclasses.dataclass(frozen=True)
class Network:
    """A whole classifier in plain numbers; made by `resolve`.

    Attributes:
        name: of its variant.
        side: of the square image that it was made for, in pixels.
        mean: subtracted from the pixels, a float per channel, in grey levels; () for none.
        std: divides them after that; () for none.
        stem: the first convolution.
        blocks: what follows, in order.
        head: the last convolution.
        dropout_rate: of the dropout before the classifier, in [0, 1).
        classifier: the dense layer, which gives logits.
    """

    name: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stem: Convolution
    blocks: tuple[Block, ...]
    head: Convolution
    dropout_rate: float
    classifier: Convolution

    def convolutions(self) -> tuple[Convolution, ...]:
        """All convolutions and the classifier, in order, by canonical names.

        These are "stem_conv", "blocks_0/dwconv" with the blocks counted over all stages,
        "top_conv" and "predictions". Batch norms are named likewise.
        """
        found = [self.stem]
        for number, block in enumerate(self.blocks):
            for convolution in block.convolutions:
                found.append(_renamed(convolution, f"blocks_{number}/"))
        return (*found, self.head, self.classifier)


def _renamed(convolution, prefix):
    batch_norm = convolution.batch_norm
    if batch_norm is not None:
        batch_norm = prefix + batch_norm
    return dataclasses.replace(convolution, name=prefix + convolution.name, batch_norm=batch_norm)


def resolve(
    variant: str | Variant,
    *,
    num_classes: int | None = None,
    resolution: int | None = None,
    channels: int = 3,
    dropout_rate: float | None = None,
    drop_connect_rate: float = 0.2,
    output_stride: int = 32,
    preprocessing: bool | str = True,
) -> Network:
    """Resolves a variant to plain numbers.

    Args:
        variant: a name of `VARIANTS` or a `Variant`.
        num_classes: classes of the classifier; by default the variant's.
        resolution: side of the square image, in pixels; by default the variant's. Models
            take images of any side of at least 32 pixels, so that it is not checked here.
        channels: of the images.
        dropout_rate: before the classifier, in [0, 1); by default the variant's.
        drop_connect_rate: see `blocks`.
        output_stride: see `blocks`.
        preprocessing: see `normalization`.

    Raises:
        InputError: unknown name, no class, a rate outside [0, 1), another output stride,
            unknown preprocessing, or a width that leaves a part without filters.

    Example:
        >>> resolve("b0").head.kernel_shape
        (1, 1, 320, 1280)
    """
    row = find_variant(variant)
    num_classes = row.num_classes if num_classes is None else num_classes
    dropout_rate = row.dropout_rate if dropout_rate is None else dropout_rate
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; it must be at least 1.")
    _check_rate("dropout_rate", dropout_rate)
    _check_rate("drop_connect_rate", drop_connect_rate)
    stem, head = stem_and_head_filters(row)
    found = _with_endpoints(_plain_blocks(row, stem), drop_connect_rate)
    mean, std = normalization(row, channels, preprocessing)
    return Network(
        name=row.name,
        side=row.resolution if resolution is None else resolution,
        mean=mean,
        std=std,
        stem=_stem(channels, stem, row.activation),
        blocks=_dilated(found, output_stride),
        head=_head(found[-1].filters, head, row.activation),
        dropout_rate=dropout_rate,
        classifier=Convolution("predictions", "dense", head, num_classes, pooled=True),
    )


def blocks(
    variant: str | Variant, drop_connect_rate: float = 0.2, output_stride: int = 32
) -> tuple[Block, ...]:
    """Resolves a variant to its blocks.

    The rate of drop-connect ramps linearly over the *scaled* block count: block i
    of N gets `drop_connect_rate * i / N`, so the first gets 0 and none the full
    rate (builder: survival_prob 0.8 for every variant). Blocks without a skip
    count, but have nothing to drop: their rate is 0.

    Args:
        variant: a name of `VARIANTS` or a `Variant`.
        drop_connect_rate: the end of the ramp, in [0, 1).
        output_stride: 32, or 16 or 8 for segmentation: the strides beyond it become
            dilations, which need the same weights (DeepLab, arXiv 1706.05587).

    Returns:
        A tuple of `Block`, from the stem to the head.

    Raises:
        InputError: unknown name, a rate outside [0, 1), another output stride, or a
            width that leaves a stage without filters.
    """
    network = resolve(variant, drop_connect_rate=drop_connect_rate, output_stride=output_stride)
    return network.blocks


def check_resolution(resolution: int, what: str) -> None:
    """Raises InputError if a side of `resolution` pixels is too small for the network."""
    if resolution < MIN_RESOLUTION:
        raise InputError(
            f"An input of {resolution} pixels is too small for {what}: the network "
            f"reduces each side 32 times and needs at least {MIN_RESOLUTION}."
        )


def _check_rate(name, rate):
    if not 0 <= rate < 1:
        raise InputError(f"{name} is {rate}; it must be in [0, 1).")


def _stem(channels, filters, activation):
    return Convolution(
        "stem_conv", "full", channels, filters, 3, 2, batch_norm="stem_bn", activation=activation
    )


def _head(input_filters, filters, activation):
    return Convolution(
        "top_conv", "full", input_filters, filters, batch_norm="top_bn", activation=activation
    )


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
    declared_input, strides = stage.input_filters, stage.strides
    if repeat:
        declared_input, strides = stage.filters, 1
    # Expansion counts from the declared channels (builder: block_args.input_filters),
    # which differ from the real ones only in EdgeTPU's first block.
    expanded = declared_input * stage.expand_ratio
    if stage.expand_ratio == 1 and not stage.fused:
        expanded = real_input
    squeezed = 0
    if variant.se_ratio:
        squeezed = max(1, int(declared_input * variant.se_ratio))
    return Block(
        name=f"block{number}{block_letter(repeat)}",
        stage=number,
        fused=stage.fused,
        kernel_size=stage.kernel_size,
        strides=strides,
        input_filters=real_input,
        expanded_filters=expanded,
        se_filters=squeezed,
        filters=stage.filters,
        skip=stage.skip and strides == 1 and declared_input == stage.filters,
        drop_connect_rate=0.0,
        reduction=None,
        activation=variant.activation,
    )


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
