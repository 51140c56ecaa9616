"""What is a variant once all its numbers are known?

`resolve` does all the arithmetic, and its `Network` is what models, costs, weights files and
exports read: none of them asks a variant again. Sources: see `rows.py`.
"""

import dataclasses
import math
import numbers
import operator
from collections.abc import Iterator

from effnet_tf.errors import InputError
from effnet_tf.variants.block import Block, resolve_blocks
from effnet_tf.variants.convolutions import PADDINGS, Convolution
from effnet_tf.variants.rounding import outer_filters
from effnet_tf.variants.rows import CROPS, KERAS_GRAPHS, Variant, normalization
from effnet_tf.variants.table import find_variant


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
        head: the last convolution of the map; None for none.
        top: a dense layer between the mean over the map and the classifier; None for none.
        dropout_rate: of the dropout before the classifier, in [0, 1).
        classifier: the dense layer, which gives logits.
        batch_norm_momentum: of the moving statistics of every batch norm, in [0, 1).
        batch_norm_epsilon: added to the variance in every batch norm.
        keras_graph: whose layers and names the flat form has, one of `KERAS_GRAPHS`.
    """

    name: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stem: Convolution
    blocks: tuple[Block, ...]
    head: Convolution | None
    top: Convolution | None
    dropout_rate: float
    classifier: Convolution
    batch_norm_momentum: float
    batch_norm_epsilon: float
    keras_graph: str = "efficientnet"

    @property
    def ending(self) -> tuple[Convolution, ...]:
        """What follows the blocks: the head, the dense layer on top, and the classifier."""
        found = [self.classifier]
        if self.top is not None:
            found.insert(0, self.top)
        if self.head is not None:
            found.insert(0, self.head)
        return tuple(found)

    def convolutions(self) -> tuple[Convolution, ...]:
        """All convolutions and dense layers, in order, by canonical names.

        These are "stem_conv", "blocks_0/dwconv" with the blocks counted over all stages,
        "top_conv", "top_projection" and "predictions". Batch norms are named likewise.
        """
        found = [self.stem]
        for number, block in enumerate(self.blocks):
            for convolution in block.convolutions:
                found.append(_renamed(convolution, f"blocks_{number}/"))
        return (*found, *self.ending)

    @property
    def least_side(self) -> int:
        """Pixels of the smallest image: its strides, multiplied, so that one pixel is left."""
        strides = [self.stem.strides, *(block.strides for block in self.blocks)]
        if self.stem.pool_size:
            strides.append(2)
        return math.prod(strides)

    def parts(self) -> Iterator[tuple[tuple[Convolution, ...], bool]]:
        """Yields (convolutions, whether their input is added to their output) of each part.

        Parts are the stem, each block, and the ending, in order.
        """
        yield (self.stem,), False
        for block in self.blocks:
            yield block.convolutions, block.skip
        yield self.ending, False


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
    batch_norm_momentum: float | None = None,
) -> Network:
    """Resolves a variant to plain numbers.

    Args:
        variant: a name of `VARIANTS` or a `Variant`.
        num_classes: classes of the classifier; by default the variant's.
        resolution: side of the square image, in pixels; by default the variant's. Models
            take images of any side of at least `least_side`, so that it is not checked here.
        channels: of the images.
        dropout_rate: before the classifier, in [0, 1); by default the variant's.
        drop_connect_rate: see `blocks`.
        output_stride: see `blocks`.
        preprocessing: see `normalization`.
        batch_norm_momentum: in [0, 1); by default the variant's.

    Raises:
        InputError: unknown name, no class, a rate or momentum outside [0, 1), another output
            stride, unknown preprocessing or padding, or a width that leaves a part without
            filters.

    Example:
        >>> resolve("b0").head.kernel_shape
        (1, 1, 320, 1280)
    """
    row = find_variant(variant)
    num_classes = check_count("num_classes", _given(num_classes, row.num_classes))
    dropout_rate = _given(dropout_rate, row.dropout_rate)
    batch_norm_momentum = _given(batch_norm_momentum, row.batch_norm_momentum)
    _check_rate("dropout_rate", dropout_rate)
    _check_rate("drop_connect_rate", drop_connect_rate)
    _check_rate("batch_norm_momentum", batch_norm_momentum)
    _check_padding(row)
    _check_choices(row)
    stem_filters, head_filters, top_filters = outer_filters(row)
    stem = _stem(channels, stem_filters, row)
    found = resolve_blocks(row, stem, drop_connect_rate, output_stride)
    features = head_filters or found[-1].filters
    mean, std = normalization(row, channels, preprocessing)
    return Network(
        name=row.name,
        side=_given(resolution, row.resolution),
        mean=mean,
        std=std,
        stem=stem,
        blocks=found,
        head=_head(found[-1].filters, head_filters, row),
        top=_top(features, top_filters, row),
        dropout_rate=dropout_rate,
        classifier=_classifier(top_filters or features, num_classes),
        batch_norm_momentum=batch_norm_momentum,
        batch_norm_epsilon=row.batch_norm_epsilon,
        keras_graph=row.keras_graph,
    )


def _given(value, own):
    """Returns a value, or the row's own where it is None."""
    if value is None:
        return own
    return value


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


def check_resolution(resolution: int, what: str, least: int) -> None:
    """Raises InputError if a side of `resolution` pixels is below a network's `least_side`."""
    if resolution < least:
        raise InputError(
            f"An input of {resolution} pixels is too small for {what}: the network "
            f"reduces each side {least} times and needs at least {least}."
        )


def check_count(name: str, number: int) -> int:
    """Returns a count as an int: NumPy's integers are none to Keras and JSON.

    Raises:
        InputError: it is no whole number, or below 1; `name` says whose it is.
    """
    try:
        count = operator.index(number)
    except TypeError:
        raise InputError(f"{name} is {number!r}; it must be a whole number.") from None
    if count < 1:
        raise InputError(f"{name} is {count}; it must be at least 1.")
    return count


def _check_rate(name, rate):
    if not isinstance(rate, numbers.Real) or not 0 <= rate < 1:
        raise InputError(f"{name} is {rate!r}; it must be in [0, 1).")


def _check_padding(row):
    if row.padding not in PADDINGS:
        raise InputError(
            f"padding of variant '{row.name}' is {row.padding!r}; it must be one of "
            f"{', '.join(map(repr, PADDINGS))}."
        )
    for stage in row.stages:
        if row.padding != "same" and stage.kernel_size % 2 == 0:
            raise InputError(
                f"Variant '{row.name}' has padding '{row.padding}' and a kernel of "
                f"{stage.kernel_size} pixels: only odd ones have as many pixels on either side of "
                "their middle."
            )


def _check_choices(row):
    for field, known in (("keras_graph", KERAS_GRAPHS), ("crops", CROPS)):
        value = getattr(row, field)
        if value not in known:
            raise InputError(
                f"{field} of variant '{row.name}' is {value!r}; it must be one of "
                f"{', '.join(map(repr, known))}."
            )


def _stem(channels, filters, row):
    padding = row.padding
    if padding == "even":
        padding = "same"  # keras.applications' MobileNet pads its blocks otherwise than its stem
    return Convolution(
        "stem_conv",
        "full",
        channels,
        filters,
        row.stem_kernel_size,
        2,
        batch_norm="stem_bn",
        activation=row.activation,
        padding=padding,
        bias=row.conv_bias,
        pool_size=row.stem_pool_size,
    )


def _head(input_filters, filters, row):
    if not filters:
        return None
    return Convolution(
        "top_conv",
        "full",
        input_filters,
        filters,
        batch_norm="top_bn",
        activation=row.activation,
        bias=row.conv_bias,
    )


def _classifier(input_filters, classes):
    return Convolution("predictions", "dense", input_filters, classes, pooled=True)


def _top(input_filters, filters, row):
    if not filters:
        return None
    return Convolution(
        "top_projection", "dense", input_filters, filters, activation=row.activation, pooled=True
    )
