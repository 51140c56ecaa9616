"""EfficientNet for Keras 3 and TensorFlow: models, training, export.

Networks
    EfficientNetB0 and so on  build a network with the arguments of keras.applications
    model_fn                  builds any variant, or one of your own, with more to choose
    feature_extractor         builds a network that gives the maps of all scales
    load_model                loads a .keras file, or the network of a run
    load_run                  loads the trained network of a run directory, with its class names
    load_weights              reads weights of any known origin into a model
    LoadReport                what load_weights has read, left out and assumed
    set_trainable             freezes a model up to a stage, or its batch norm
    set_remat                 trades time for memory in training
    preprocess_input          gives images back as they are: the networks normalise pixels
    decode_predictions        names the most probable classes of ImageNet

Variants and what they cost, without TensorFlow
    VARIANTS                  {name: Variant} of all networks; shows as a table
    Variant                   one network in plain numbers
    Stage                     a row of a Variant: blocks of one kind
    Block                     one block after scaling
    blocks                    lists the blocks of a network
    CompoundScaling           what a phi means: depth, width and resolution
    Cost                      parameters, multiply-adds and memory of a network
    cost                      counts them
    list_models               lists the variants with what each costs and reaches

Training
    train                     trains networks: train.run(recipe, workdir)
    Recipe                    all hyper-parameters of a training run
    RECIPES                   {name: Recipe} of those that are shipped; shows as a table
    data                      batches of images from folders, tables, TFDS and TFRecords
    optim                     optimisers, schedules and averages
    AdamW                     AdamW, with rates per stage
    LARS                      LARS, for very large batches
    RMSprop                   RMSProp as TensorFlow 1 computes it, which the paper uses
    SGD                       SGD with momentum, with rates per stage
    WarmupConstant            a schedule: warm-up, then the same rate
    WarmupCosine              a schedule: warm-up, then a cosine
    WarmupPolynomial          a schedule: warm-up, then a polynomial
    WarmupStaircase           a schedule: warm-up, then steps, as in the paper

Using what was trained
    inference                 evaluates networks, predicts and explains
    export                    writes and checks TFLite, ONNX and SavedModel files

Finding a network
    scaling                   plans networks for a budget
    search                    searches coefficients of scaling, or an architecture

Layers
    MBConv                    a mobile inverted bottleneck
    FusedMBConv               the same with one full convolution, for accelerators
    DescribedBlock            any block that is a list of convolutions
    SqueezeExcite             scales channels by what they are on average
    CondConv                  a convolution with a kernel of its own for each image
    DepthwiseCondConv         a depthwise one of this kind
    Routing                   says of which experts an image's kernels are mixed
    BatchNorm                 batch norm that can be frozen
    DropConnect               stochastic depth, image by image
    Dropout                   dropout whose masks differ from replica to replica
    Normalize                 pixels to what a network was trained on

Errors, each a sentence that says what to do
    InputError                something that you gave cannot be used
    MissingPackage            something needs a package that is not installed
    MissingTensorFlow         it is TensorFlow

Names that need TensorFlow import it when they are first used.
"""

from effnet_tf import errors, faces
from effnet_tf.costs import cost
from effnet_tf.errors import InputError
from effnet_tf.extras import MissingPackage, MissingTensorFlow
from effnet_tf.recipes import RECIPES, Recipe
from effnet_tf.variants import (
    CONSTRUCTORS,
    VARIANTS,
    Block,
    CompoundScaling,
    Cost,
    Stage,
    Variant,
    blocks,
)

__version__ = "0.1.0"

# The public names that are imported when first used, most of them because they need TensorFlow,
# by the package that hands them on.
_LAZY = {
    "catalog": ("list_models",),
    "layers": (
        "BatchNorm",
        "CondConv",
        "DepthwiseCondConv",
        "DescribedBlock",
        "DropConnect",
        "Dropout",
        "FusedMBConv",
        "MBConv",
        "Normalize",
        "Routing",
        "SqueezeExcite",
        "set_remat",
    ),
    "optim": (
        "AdamW",
        "LARS",
        "RMSprop",
        "SGD",
        "WarmupConstant",
        "WarmupCosine",
        "WarmupPolynomial",
        "WarmupStaircase",
    ),
    "weights": ("LoadReport", "load_weights"),
    "models": ("feature_extractor", "load_model", "load_run", "model_fn", "set_trainable"),
    "models.applications": ("decode_predictions", "preprocess_input", *CONSTRUCTORS),
}
# The packages that `effnet_tf.NAME` reaches without an import of its own.
_PACKAGES = (
    "catalog",
    "data",
    "export",
    "inference",
    "layers",
    "models",
    "optim",
    "recipes",
    "runs",
    "scaling",
    "search",
    "train",
    "variants",
    "weights",
)
_get, __dir__, _NAMES = faces.attach(__name__, _LAZY)

__all__ = sorted(
    [
        "VARIANTS",
        "Block",
        "CompoundScaling",
        "Cost",
        "InputError",
        "MissingPackage",
        "MissingTensorFlow",
        "RECIPES",
        "Recipe",
        "Stage",
        "Variant",
        "blocks",
        "cost",
        "data",
        "export",
        "inference",
        "optim",
        "scaling",
        "search",
        "train",
        *_NAMES,
    ]
)


errors.show_sentences()
faces.register_with_keras("effnet_tf.layers", "effnet_tf.optim")


def __getattr__(name):
    if name in _PACKAGES:
        return faces.load(f"effnet_tf.{name}", name)
    return _get(name)
