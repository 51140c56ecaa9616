"""How are the channels and the repeats of a row scaled, and rounded?

Sources: see `rows.py`.
"""

import dataclasses
import math
from collections.abc import Iterator

from effnet_tf.errors import InputError
from effnet_tf.variants.rows import Stage, Variant


def round_filters(filters: int, width_coefficient: float, ten_percent_rule: bool = True) -> int:
    """Returns `filters` scaled and rounded to a multiple of 8.

    The builder's rule: the nearest multiple of 8, and the next one up where that
    would lose more than 10 % (it fires once in the family: 16 -> 24 at width 1.2).
    EfficientNetV2 (google/automl efficientnetv2/utils.py) lacks this rule.

    Deviation: the builder clamps at 8 whatever the width; here a width that rounds
    to no filters at all is the caller's error, see `scaled_filters`.
    """
    scaled = filters * width_coefficient
    rounded = int(scaled + 4) // 8 * 8
    if ten_percent_rule and 0 < rounded < 0.9 * scaled:
        rounded += 8
    return rounded


def round_repeats(repeats: int, depth_coefficient: float) -> int:
    """Returns `repeats` scaled and rounded up (paper, section 5; builder)."""
    return math.ceil(depth_coefficient * repeats)


def _scaled_filters(variant, what, filters, width):
    """Returns scaled and rounded channels, of which at least some must be left."""
    rounded = round_filters(filters, width, variant.ten_percent_rule)
    if rounded <= 0:
        raise InputError(
            f"Width {width:.3g} leaves {what} of variant '{variant.name}' without filters: "
            f"{filters} x {width:.3g} = {filters * width:.2g} rounds to 0. "
            f"Use a width_coefficient of at least {4 / filters:.3g}, or a larger phi."
        )
    return rounded


def outer_filters(variant: Variant) -> tuple[int, int, int]:
    """Returns the scaled channels (stem, head, dense layer before the classifier) of a variant.

    The last two are 0 where there is none.

    Raises:
        InputError: the width leaves one of them without filters.
    """
    width = 1.0
    if variant.scale_stem_and_head:
        width = variant.width_coefficient
    stem = _scaled_filters(variant, "the stem", variant.stem_filters, width)
    head = top = 0
    if variant.head_filters:
        head = _scaled_filters(variant, "the head", variant.head_filters, width)
    if variant.top_filters:
        top = _scaled_filters(variant, "the top", variant.top_filters, width)
    return stem, head, top


def scaled_stages(variant: Variant) -> Iterator[tuple[Stage, int]]:
    """Yields (stage with scaled channels, its scaled repeats) for every stage of a variant.

    Raises:
        InputError: the width leaves a stage without filters; a depth that is not positive.
    """
    width, last = variant.width_coefficient, len(variant.stages) - 1
    if variant.depth_coefficient <= 0:
        raise InputError(
            f"depth_coefficient of variant '{variant.name}' is "
            f"{variant.depth_coefficient}; it must be greater than 0."
        )
    for index, stage in enumerate(variant.stages):
        filters = _scaled_filters(variant, f"stage {index + 1}", stage.filters, width)
        repeats = stage.repeats
        if variant.scale_stem_and_head or index not in (0, last):
            repeats = round_repeats(repeats, variant.depth_coefficient)
        declared = round_filters(stage.input_filters, width, variant.ten_percent_rule)
        yield dataclasses.replace(stage, filters=filters, input_filters=declared), repeats
