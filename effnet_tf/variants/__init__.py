"""What is each network, in plain numbers? No TensorFlow."""

from effnet_tf.variants import showing  # noqa: F401  it says how VARIANTS shows
from effnet_tf.variants.accuracies import ACCURACIES, Accuracy, published_top1
from effnet_tf.variants.baselines import BASELINES
from effnet_tf.variants.block import Block
from effnet_tf.variants.compound import CompoundScaling
from effnet_tf.variants.condconv import CONDCONVS
from effnet_tf.variants.convolutions import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MODES,
    BATCH_NORM_MOMENTUM,
    PADDINGS,
    ROUTING,
    Convolution,
    describe_experts,
    describe_squeeze_excite,
)
from effnet_tf.variants.counting import (
    DTYPES,
    REMAT,
    Cost,
    Part,
    add_up,
    check_batch,
    check_remat,
    cost,
    count_part,
)
from effnet_tf.variants.efficientnet import EFFICIENTNETS
from effnet_tf.variants.efficientnet_v2 import EFFICIENTNETS_V2
from effnet_tf.variants.families import FAMILIES, check_family, in_family, of_timm
from effnet_tf.variants.kinds import (
    KINDS,
    describe_bottleneck,
    describe_conv,
    describe_fused_mbconv,
    describe_mbconv,
    describe_separable,
)
from effnet_tf.variants.layer_names import (
    Place,
    block_letter,
    place_of,
    places_of,
    stage_of,
    stages_of,
)
from effnet_tf.variants.network import Network, blocks, check_resolution, resolve
from effnet_tf.variants.rounding import outer_filters, round_filters, scaled_stages
from effnet_tf.variants.rows import (
    CROPS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    KERAS_GRAPHS,
    PREPROCESSING,
    Stage,
    Variant,
)
from effnet_tf.variants.table import CONSTRUCTORS, VARIANTS, find_variant, model_name, name_of_model
from effnet_tf.variants.variant_files import SUFFIX, read_variant, save_variant, to_json

__all__ = [
    "REMAT",
    "ACCURACIES",
    "BASELINES",
    "BATCH_NORM_EPSILON",
    "BATCH_NORM_MODES",
    "BATCH_NORM_MOMENTUM",
    "CONDCONVS",
    "CONSTRUCTORS",
    "CROPS",
    "DTYPES",
    "EFFICIENTNETS",
    "EFFICIENTNETS_V2",
    "FAMILIES",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "KERAS_GRAPHS",
    "KINDS",
    "PADDINGS",
    "PREPROCESSING",
    "ROUTING",
    "SUFFIX",
    "VARIANTS",
    "Accuracy",
    "Block",
    "CompoundScaling",
    "Convolution",
    "Cost",
    "Network",
    "Part",
    "Place",
    "Stage",
    "Variant",
    "add_up",
    "block_letter",
    "blocks",
    "check_batch",
    "check_remat",
    "check_family",
    "check_resolution",
    "cost",
    "count_part",
    "find_variant",
    "in_family",
    "describe_bottleneck",
    "describe_conv",
    "describe_experts",
    "describe_fused_mbconv",
    "describe_mbconv",
    "describe_separable",
    "model_name",
    "name_of_model",
    "of_timm",
    "outer_filters",
    "place_of",
    "places_of",
    "published_top1",
    "read_variant",
    "resolve",
    "round_filters",
    "save_variant",
    "scaled_stages",
    "describe_squeeze_excite",
    "stage_of",
    "stages_of",
    "to_json",
]
