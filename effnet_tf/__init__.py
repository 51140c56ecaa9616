"""EfficientNet for Keras 3 and TensorFlow: models, training, export.

Names that need TensorFlow are loaded when first used (PEP 562), so that
`import effnet_tf`, parameter counts and `--help` take milliseconds without it.
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
        "DescribedBlock",
        "DropConnect",
        "Dropout",
        "FusedMBConv",
        "MBConv",
        "Normalize",
        "SqueezeExcite",
    ),
    "optim": (
        "AdamW",
        "LARS",
        "RMSprop",
        "SGD",
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
