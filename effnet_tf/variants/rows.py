"""What does a row say of a network: its stages, its coefficients, the pixels it takes?

Sources, by the short names used in this folder:
  paper    Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional
           Neural Networks", ICML 2019, arXiv 1905.11946.
  builder  the original code, tensorflow/tpu models/official/efficientnet:
           `efficientnet_builder.py`, `efficientnet_model.py`, and its `lite/`
           and `edgetpu/` folders.
"""

import dataclasses
import warnings

from effnet_tf.errors import InputError
from effnet_tf.variants.convolutions import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM

# builder, efficientnet_builder.py: per-channel RGB constants on pixels in [0, 255].
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

# name -> (mean, std) per RGB channel, on pixels in [0, 255] (preprocessing constants of the
# original code: efficientnet_builder.py, lite/, and --advprop_preprocessing).
PREPROCESSING = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "inception": ((127.5,) * 3, (127.5,) * 3),  # x * 2 / 255 - 1
    "lite": ((127.0,) * 3, (128.0,) * 3),
    "v2": ((128.0,) * 3, (128.0,) * 3),  # google/automl efficientnetv2/preprocessing.py
}


# Modules of keras.applications that the flat form is like, see `models/flat.py`.
KERAS_GRAPHS = ("efficientnet", "efficientnet_v2")


# How images are cut and resized, see `data/crops.py`: as EfficientNet's code does it, as
# EfficientNetV2's does, or by squeezing the whole image.
CROPS = ("v1", "v2", "whole")


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row of a stage table: `repeats` blocks, of which the first may stride.

    Attributes:
        filters: output channels before scaling.
        repeats: blocks before depth scaling.
        kernel_size: side of the (depthwise) convolution kernel, in pixels.
        strides: stride of the first block; the others have stride 1.
        expand_ratio: hidden channels over input channels; of a bottleneck, over output channels.
        input_filters: input channels before scaling, as the builder declares them.
        fused: of an MBConv: a full convolution expands, instead of 1x1 and depthwise.
        skip: whether blocks may add their input to their output.
        kind: of the blocks, one of `STAGE_KINDS`.
        se_ratio: as the variant's, for this stage alone; None for the variant's.
        activation: the same.
        project_activation: whether the last convolution has the activation, too (MobileNetV1),
            which is else linear. That of a "conv" always has it.
        experts: kernels of which each convolution mixes its own for each image (CondConv); 0 for
            one kernel.
    """

    filters: int
    repeats: int
    kernel_size: int
    strides: int
    expand_ratio: float
    input_filters: int
    fused: bool = False
    skip: bool = True
    kind: str = "mbconv"
    se_ratio: float | None = None
    activation: str | None = None
    project_activation: bool = False
    experts: int = 0


# What the blocks of a stage are: mobile inverted bottlenecks, fused or not; a depthwise and a 1x1
# convolution; one full convolution; or residual bottlenecks. `kinds.py` has a description of each.
STAGE_KINDS = ("mbconv", "separable", "conv", "bottleneck", "bottleneck_b")

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
        activation: "swish", "relu", "relu6" or "hard_swish".
        stem_filters: channels of the stem before scaling.
        head_filters: channels of the head before scaling; 0 for no head.
        scale_stem_and_head: whether the stem, the head, and the repeats of the first
            and last stage follow the coefficients (Lite: they do not).
        mean: per-channel RGB mean subtracted from pixels in [0, 255].
        std: per-channel RGB divisor applied after the mean.
        num_classes: classes of the released classifier.
        batch_norm_momentum: of the moving statistics, in [0, 1).
        batch_norm_epsilon: added to the variance, > 0.
        padding: of the convolutions, one of `PADDINGS`.
        se_from_expanded: whether the squeeze's width counts from the hidden channels, and is a
            multiple of 8 (MobileNetV3).
        se_activation: name of that after the squeeze; None for the block's.
        se_gate: name of that of the excitation.
        conv_bias: whether convolutions have a bias although batch norm follows.
        stem_kernel_size: side of the stem's kernel, in pixels.
        stem_pool_size: side of the windows whose maximum is taken after the stem, at strides of
            2; 0 for none.
        top_filters: channels, before scaling, of a dense layer between the mean over the map and
            the classifier, with the variant's activation; 0 for none.
        ten_percent_rule: whether scaled channels are rounded up where rounding would lose more
            than 10 % of them (EfficientNetV2: they are not).
        keras_graph: whose layers and names the flat form has, one of `KERAS_GRAPHS`.
        crops: how its images are cut and resized, one of `CROPS`.
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
    batch_norm_momentum: float = BATCH_NORM_MOMENTUM
    batch_norm_epsilon: float = BATCH_NORM_EPSILON
    padding: str = "same"
    se_from_expanded: bool = False
    se_activation: str | None = None
    se_gate: str = "sigmoid"
    conv_bias: bool = False
    stem_kernel_size: int = 3
    stem_pool_size: int = 0
    top_filters: int = 0
    ten_percent_rule: bool = True
    keras_graph: str = "efficientnet"
    crops: str = "v1"


def normalization(
    variant: Variant, channels: int, preprocessing: bool | str = True
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns the (mean, std) of a variant's pixels, a float per channel, in grey levels.

    RGB images have the variant's constants, or those that `preprocessing` names. For
    other channel counts every channel gets the average of the three, with a warning:
    pass `preprocessing=False` and normalise yourself where you know better.

    Args:
        variant: the row.
        channels: of the images, at least 1.
        preprocessing: True for the constants of the row; or a name in `PREPROCESSING`;
            False for none: the result is then ((), ()).

    Raises:
        InputError: there are no constants of this name.
    """
    if not preprocessing:
        return (), ()
    means, stds = variant.mean, variant.std
    if preprocessing is not True:
        if preprocessing not in PREPROCESSING:
            raise InputError(
                f"preprocessing is {preprocessing!r}; it must be True, False, or one "
                f"of {', '.join(map(repr, PREPROCESSING))}."
            )
        means, stds = PREPROCESSING[preprocessing]
    if channels == 3:
        return tuple(means), tuple(stds)
    mean, std = sum(means) / 3, sum(stds) / 3
    if len({*means, *stds}) > 2:
        warnings.warn(
            f"The constants of variant '{variant.name}' are for RGB; each of the "
            f"{channels} channels is normalised by their average, "
            f"(x - {mean:.2f}) / {std:.2f}.",
            stacklevel=4,  # whoever called model_fn, which called resolve
        )
    return (mean,) * channels, (std,) * channels
