"""What is each EfficientNet, in plain numbers? No TensorFlow."""

from effnet_tf.variants.accuracies import ACCURACIES, Accuracy, published_top1
from effnet_tf.variants.block import Block
from effnet_tf.variants.compound import CompoundScaling
from effnet_tf.variants.convolutions import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MODES,
    BATCH_NORM_MOMENTUM,
    PADDINGS,
    Convolution,
    describe_fused_mbconv,
    describe_mbconv,
    describe_squeeze_excite,
)
from effnet_tf.variants.counting import Cost, cost
from effnet_tf.variants.layer_names import (
    Place,
    block_letter,
    place_of,
    places_of,
    stage_of,
    stages_of,
)
from effnet_tf.variants.network import Network, blocks, check_resolution, resolve
from effnet_tf.variants.rounding import round_filters
from effnet_tf.variants.rows import IMAGENET_MEAN, IMAGENET_STD, PREPROCESSING, Stage, Variant
from effnet_tf.variants.table import CONSTRUCTORS, VARIANTS, find_variant

__all__ = [
    "ACCURACIES",
    "BATCH_NORM_EPSILON",
    "BATCH_NORM_MODES",
    "BATCH_NORM_MOMENTUM",
    "CONSTRUCTORS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PADDINGS",
    "PREPROCESSING",
    "VARIANTS",
    "Accuracy",
    "Block",
    "CompoundScaling",
    "Convolution",
    "Cost",
    "Network",
    "Place",
    "Stage",
    "Variant",
    "block_letter",
    "blocks",
    "check_resolution",
    "cost",
    "find_variant",
    "describe_fused_mbconv",
    "describe_mbconv",
    "place_of",
    "places_of",
    "published_top1",
    "resolve",
    "round_filters",
    "describe_squeeze_excite",
    "stage_of",
    "stages_of",
]
