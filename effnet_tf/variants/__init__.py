"""What is each EfficientNet, in plain numbers? No TensorFlow."""

from effnet_tf.variants.counting import Cost, cost
from effnet_tf.variants.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VARIANTS,
    Block,
    CompoundScaling,
    Stage,
    Variant,
    block_letter,
    blocks,
    check_resolution,
    find_variant,
    nearest,
    round_filters,
    stem_and_head_filters,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VARIANTS",
    "Block",
    "CompoundScaling",
    "Cost",
    "Stage",
    "Variant",
    "block_letter",
    "blocks",
    "check_resolution",
    "cost",
    "find_variant",
    "nearest",
    "round_filters",
    "stem_and_head_filters",
]
