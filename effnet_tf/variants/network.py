"""What is each EfficientNet variant, in plain numbers?

The stage tables and one row per released variant (`VARIANTS`), the rules that
turn a row into blocks (`blocks`), and the paper's compound scaling
(`CompoundScaling`). Standard library only: importing this takes milliseconds.

Sources, by the short names used below:
  paper    Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional
           Neural Networks", ICML 2019, arXiv 1905.11946.
  builder  the original code, tensorflow/tpu models/official/efficientnet:
           `efficientnet_builder.py`, `efficientnet_model.py`, and its `lite/`
           and `edgetpu/` folders.
"""

import dataclasses
import difflib
import math

from effnet_tf.errors import InputError


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of a stage table: `repeats` blocks, of which the first may stride.

    Attributes:
        filters: output channels before scaling.
        repeats: blocks before depth scaling.
        kernel_size: side of the (depthwise) convolution kernel, in pixels.
        strides: stride of the first block; the others have stride 1.
        expand_ratio: hidden channels over input channels.
        input_filters: input channels before scaling, as the builder declares them.
        fused: a full 3x3 convolution expands, instead of 1x1 and depthwise.
        skip: whether blocks may add their input to their output.
    """

    filters: int
    repeats: int
    kernel_size: int
    strides: int
    expand_ratio: int
    input_filters: int
    fused: bool = False
    skip: bool = True


# paper, table 1. The paper numbers the stem as stage 1; here stage 1 is the first
# of the block stages, as in the names of keras.applications' layers (block1a...).
B_STAGES = (
    Stage(16, 1, 3, 1, 1, 32),
    Stage(24, 2, 3, 2, 6, 16),
    Stage(40, 2, 5, 2, 6, 24),
    Stage(80, 3, 3, 2, 6, 40),
    Stage(112, 3, 5, 1, 6, 80),
    Stage(192, 4, 5, 2, 6, 112),
    Stage(320, 1, 3, 1, 6, 192),
)

# builder, edgetpu/. The first row declares 24 input channels although the stem
# gives 32; its expansion counts from the declared 24, so the row says 24.
EDGETPU_STAGES = (
    Stage(24, 1, 3, 1, 4, 24, fused=True, skip=False),
    Stage(32, 2, 3, 2, 8, 24, fused=True),
    Stage(48, 4, 3, 2, 8, 32, fused=True),
    Stage(96, 5, 5, 2, 8, 48),
    Stage(144, 4, 5, 1, 8, 96),
    Stage(192, 2, 5, 2, 8, 144),
)

# builder, efficientnet_builder.py: per-channel RGB constants on pixels in [0, 255].
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network of the family: a row of data. Make your own with `replace`.

    Example:
        >>> import dataclasses
        >>> wide = dataclasses.replace(VARIANTS["b0"], name="b0-wide", width_coefficient=1.3)

    Attributes:
        name: how the variant is called on the command line and in files.
        width_coefficient: factor on the channels of every stage, > 0.
        depth_coefficient: factor on the repeats of every stage, > 0.
        resolution: side of the square input image, in pixels.
        dropout_rate: rate of the dropout before the classifier, in [0, 1).
        stages: the unscaled stage table.
        se_ratio: squeeze-and-excite width over the block's input channels; 0 for none.
        activation: "swish", "relu" or "relu6".
        stem_filters: channels of the stem before scaling.
        head_filters: channels of the head before scaling.
        scale_stem_and_head: whether the stem, the head, and the repeats of the first
            and last stage follow the coefficients (Lite: they do not).
        mean: per-channel RGB mean subtracted from pixels in [0, 255].
        std: per-channel RGB divisor applied after the mean.
        num_classes: classes of the released classifier.
    """

    name: str
    width_coefficient: float
    depth_coefficient: float
    resolution: int
    dropout_rate: float
    stages: tuple[Stage, ...] = B_STAGES
    se_ratio: float = 0.25
    activation: str = "swish"
    stem_filters: int = 32
    head_filters: int = 1280
    scale_stem_and_head: bool = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    num_classes: int = 1000


# builder, lite/: no squeeze-and-excite, relu6, fixed stem and head.
_LITE = dict(
    se_ratio=0.0, activation="relu6", scale_stem_and_head=False, mean=(127.0,) * 3, std=(128.0,) * 3
)
# builder, edgetpu/: 1001 classes, of which class 0 is the background.
_EDGETPU = dict(
    se_ratio=0.0,
    activation="relu",
    stages=EDGETPU_STAGES,
    mean=(127.0,) * 3,
    std=(128.0,) * 3,
    num_classes=1001,
)

# name, width, depth, resolution, dropout: builder, `efficientnet_params` and its
# siblings. The coefficients are hand-set; see CompoundScaling.
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("b0", 1.0, 1.0, 224, 0.2),
        Variant("b1", 1.0, 1.1, 240, 0.2),
        Variant("b2", 1.1, 1.2, 260, 0.3),
        Variant("b3", 1.2, 1.4, 300, 0.3),
        Variant("b4", 1.4, 1.8, 380, 0.4),
        Variant("b5", 1.6, 2.2, 456, 0.4),
        Variant("b6", 1.8, 2.6, 528, 0.5),
        Variant("b7", 2.0, 3.1, 600, 0.5),
        Variant("b8", 2.2, 3.6, 672, 0.5),
        Variant("l2", 4.3, 5.3, 800, 0.5),
        Variant("lite0", 1.0, 1.0, 224, 0.2, **_LITE),
        Variant("lite1", 1.0, 1.1, 240, 0.2, **_LITE),
        Variant("lite2", 1.1, 1.2, 260, 0.3, **_LITE),
        Variant("lite3", 1.2, 1.4, 280, 0.3, **_LITE),
        Variant("lite4", 1.4, 1.8, 300, 0.3, **_LITE),
        Variant("edgetpu-s", 1.0, 1.0, 224, 0.2, **_EDGETPU),
        Variant("edgetpu-m", 1.0, 1.1, 240, 0.2, **_EDGETPU),
        Variant("edgetpu-l", 1.2, 1.4, 300, 0.3, **_EDGETPU),
    )
}

MAX_SCALE = 100  # a phi that asks for more would take hours to expand, and no machine has it
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


def find_variant(variant):
    """Returns a `Variant` for a name of `VARIANTS` (any case) or a `Variant`.

    Raises:
        InputError: the name is unknown; the message lists the nearest names.
    """
    if isinstance(variant, Variant):
        return variant
    found = VARIANTS.get(str(variant).lower())
    if found is None:
        raise InputError(f"There is no variant '{variant}'. {nearest(variant, VARIANTS)}")
    return found


def nearest(name, known, cutoff=0.4):
    """Returns a sentence that offers the names in `known` nearest to `name`.

    Args:
        name: what the user wrote.
        known: the names there are.
        cutoff: how near, in [0, 1], a name must be to be offered.
    """
    known, name = sorted(known), str(name).lower()
    close = [other for other in known if other in name]  # "efficientnet-b3" holds "b3"
    close = close or difflib.get_close_matches(name, known, n=4, cutoff=cutoff)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(known)}." if len(known) < 30 else "No known name is near."


def check_resolution(resolution, what):
    """Raises InputError if a side of `resolution` pixels is too small for the network."""
    if resolution < MIN_RESOLUTION:
        raise InputError(
            f"An input of {resolution} pixels is too small for {what}: the network "
            f"reduces each side 32 times and needs at least {MIN_RESOLUTION}."
        )


def round_filters(filters, width_coefficient):
    """Returns `filters` scaled and rounded to a multiple of 8.

    The builder's rule: the nearest multiple of 8, and the next one up where that
    would lose more than 10 % (it fires once in the family: 16 -> 24 at width 1.2).

    Deviation: the builder clamps at 8 whatever the width; here a width that rounds
    to no filters at all is the caller's error, see `blocks`.
    """
    scaled = filters * width_coefficient
    rounded = int(scaled + 4) // 8 * 8
    return rounded + 8 if rounded < 0.9 * scaled and rounded else rounded


def round_repeats(repeats, depth_coefficient):
    """Returns `repeats` scaled and rounded up (paper, section 5; builder)."""
    return math.ceil(depth_coefficient * repeats)


def block_letter(index):
    """Returns a, b, ..., z, aa, ab, ... for 0, 1, ..."""
    letters = ""
    while index >= 0:
        index, rest = divmod(index, 26)
        letters = chr(ord("a") + rest) + letters
        index -= 1
    return letters


def _check_filters(variant, what, filters, width):
    if round_filters(filters, width) <= 0:
        raise InputError(
            f"Width {width:.3g} leaves {what} of variant '{variant.name}' without filters: "
            f"{filters} x {width:.3g} = {filters * width:.2g} rounds to 0. "
            f"Use a width_coefficient of at least {4 / filters:.3g}, or a larger phi."
        )


def stem_and_head_filters(variant):
    """Returns the scaled channels (stem, head) of a `Variant`.

    Raises:
        InputError: the width leaves one of them without filters.
    """
    width = variant.width_coefficient if variant.scale_stem_and_head else 1.0
    _check_filters(variant, "the stem", variant.stem_filters, width)
    _check_filters(variant, "the head", variant.head_filters, width)
    return round_filters(variant.stem_filters, width), round_filters(variant.head_filters, width)


def _scaled_stages(variant):
    """Yields (stage, repeats) with the filters and repeats of `variant` resolved."""
    last = len(variant.stages) - 1
    width = variant.width_coefficient
    if variant.depth_coefficient <= 0:
        raise InputError(
            f"depth_coefficient of variant '{variant.name}' is "
            f"{variant.depth_coefficient}; it must be greater than 0."
        )
    for index, stage in enumerate(variant.stages):
        _check_filters(variant, f"stage {index + 1}", stage.filters, width)
        fixed = not variant.scale_stem_and_head and index in (0, last)
        depth = 1.0 if fixed else variant.depth_coefficient
        yield (
            dataclasses.replace(
                stage,
                filters=round_filters(stage.filters, width),
                input_filters=round_filters(stage.input_filters, width),
            ),
            round_repeats(stage.repeats, depth),
        )


def _block(variant, stage, number, repeat, real_input):
    """Resolves one block, but for what depends on its neighbours."""
    declared_input = stage.filters if repeat else stage.input_filters
    strides = 1 if repeat else stage.strides
    # Expansion counts from the declared channels (builder: block_args.input_filters),
    # which differ from the real ones only in EdgeTPU's first block.
    expands = stage.fused or stage.expand_ratio != 1
    return Block(
        name=f"block{number}{block_letter(repeat)}",
        stage=number,
        fused=stage.fused,
        kernel_size=stage.kernel_size,
        strides=strides,
        input_filters=real_input,
        expanded_filters=declared_input * stage.expand_ratio if expands else real_input,
        se_filters=max(1, int(declared_input * variant.se_ratio)) if variant.se_ratio else 0,
        filters=stage.filters,
        skip=stage.skip and strides == 1 and declared_input == stage.filters,
        drop_connect_rate=0.0,
        reduction=None,
    )


def blocks(variant, drop_connect_rate=0.2, output_stride=32):
    """Resolves a variant to its blocks: all rounding and scaling happens here.

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
    variant = find_variant(variant)
    if not 0 <= drop_connect_rate < 1:
        raise InputError(f"drop_connect_rate is {drop_connect_rate}; it must be in [0, 1).")
    plain, channels = [], stem_and_head_filters(variant)[0]
    for number, (stage, repeats) in enumerate(_scaled_stages(variant), start=1):
        for repeat in range(repeats):
            plain.append(_block(variant, stage, number, repeat, channels))
            channels = stage.filters
    resolved, reduction = [], 0
    for index, block in enumerate(plain):
        is_endpoint = index + 1 == len(plain) or plain[index + 1].strides > 1
        reduction += is_endpoint
        resolved.append(
            dataclasses.replace(
                block,
                drop_connect_rate=drop_connect_rate * index / len(plain) if block.skip else 0.0,
                reduction=reduction if is_endpoint else None,
            )
        )
    return _dilated(resolved, output_stride)


def _dilated(plain, output_stride):
    """Returns blocks whose strides beyond `output_stride` are dilations instead."""
    if output_stride not in (8, 16, 32):
        raise InputError(f"output_stride is {output_stride}; it must be 8, 16 or 32.")
    dilated, stride, dilation = [], 2, 1  # the stem's stride
    for block in plain:
        replaced = stride * block.strides > output_stride
        dilated.append(
            dataclasses.replace(
                block, strides=1 if replaced else block.strides, dilation_rate=dilation
            )
        )
        # The block that loses its stride still sees a map of the old spacing.
        stride, dilation = (
            (stride, dilation * block.strides) if replaced else (stride * block.strides, dilation)
        )
    return tuple(dilated)


@dataclasses.dataclass(frozen=True)
class CompoundScaling:
    """The paper's compound scaling (section 3.3, equation 3) for any real phi.

    depth = alpha**phi, width = beta**phi, resolution = gamma**phi, each >= 1 at
    phi = 1. The defaults are the paper's grid search at phi = 1 around B0.

    The released B1-B7 are hand-set rows of `VARIANTS`, and no phi reproduces them
    (B5 has depth 2.2; with its width 1.6, phi would be 4.9 and the depth 2.5). Ask
    for them by name; come here for networks between and beyond them.

    Attributes:
        alpha: base of the depth coefficient, >= 1.
        beta: base of the width coefficient, >= 1.
        gamma: base of the resolution, >= 1.

    Raises:
        InputError: alpha, beta or gamma is less than 1.

    Example:
        >>> CompoundScaling().variant(-1).resolution
        195
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self):
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 1):
                raise InputError(
                    f"{name} is {value}; compound scaling needs {name} >= 1 (paper, equation 3)."
                )

    @property
    def cost_per_phi(self):
        """alpha * beta**2 * gamma**2: the factor on multiply-adds when phi grows by 1.

        The paper asks for about 2; its own constants give 1.92.
        """
        return self.alpha * self.beta**2 * self.gamma**2

    def variant(self, phi, base="b0"):
        """Returns `base` scaled by phi.

        Args:
            phi: any real number; negative ones shrink the network.
            base: a name of `VARIANTS` or a `Variant` to scale from.

        Returns:
            A `Variant` named like "b0-phi-1.5"; its resolution is rounded to a pixel.

        Raises:
            InputError: phi is not finite, leaves a stage without filters, gives a resolution
                below 32 pixels, or a network over 100 times as deep or wide as B0.
        """
        base = find_variant(base)
        try:
            depth = base.depth_coefficient * self.alpha**phi
            width = base.width_coefficient * self.beta**phi
            resolution = round(base.resolution * self.gamma**phi)
        except (OverflowError, ValueError):  # ValueError: the round of a nan
            raise InputError(
                f"phi is {phi}; it must be a finite number, and not so large that "
                "the network overflows."
            ) from None
        if max(depth, width, resolution / VARIANTS["b0"].resolution) > MAX_SCALE:
            raise InputError(
                f"phi = {phi:g} asks for depth {depth:.3g}, width {width:.3g} and {resolution:,} "
                f"pixels; more than {MAX_SCALE} times B0 is surely a mistake (L2: 5.3)."
            )
        scaled = dataclasses.replace(
            base,
            name=f"{base.name}-phi{phi:g}",
            width_coefficient=width,
            depth_coefficient=depth,
            resolution=resolution,
        )
        blocks(scaled)  # refuses a width that leaves a stage without filters
        check_resolution(scaled.resolution, f"'{base.name}' at phi = {phi:g}")
        return scaled
