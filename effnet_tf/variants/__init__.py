"""What is each EfficientNet, in plain numbers? No TensorFlow."""

from effnet_tf.variants.accuracies import ACCURACIES, Accuracy, published_top1
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
    "ACCURACIES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VARIANTS",
    "Accuracy",
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
    "published_top1",
    "round_filters",
    "stem_and_head_filters",
]
