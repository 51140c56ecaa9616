"""EfficientNet for Keras 3 and TensorFlow: models, training, export.

Names that need TensorFlow are loaded when first used (PEP 562), so that
`import effnet_tf`, parameter counts and `--help` take milliseconds without it.
"""

import importlib

from effnet_tf.config import (VARIANTS, Block, CompoundScaling, InputError, Stage, Variant,
                              blocks)
# Here and not below: the function must win over its module of the same name.
from effnet_tf.cost import Cost, cost
from effnet_tf.recipe import RECIPES, Recipe

__version__ = "0.1.0"

# The public names that need TensorFlow, by the module that defines them.
_LAZY = {
    "layers": ("DropConnect", "Dropout", "FusedMBConv", "MBConv", "Normalize", "SqueezeExcite"),
    "optim": ("RMSprop", "WarmupStaircase"),
    "weights": ("LoadReport", "load_weights"),
    "model": (
        "model_fn", "feature_extractor",
        *(f"EfficientNetB{n}" for n in range(9)), "EfficientNetL2",
        *(f"EfficientNetLite{n}" for n in range(5)),
        *(f"EfficientNetEdgeTPU{size}" for size in ("Small", "Medium", "Large"))),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}
_MODULES = (*_LAZY, "augment", "data", "export", "plots", "train", "trainer")

__all__ = ["VARIANTS", "Block", "CompoundScaling", "Cost", "InputError", "RECIPES", "Recipe",
           "Stage", "Variant", "blocks", "cost", *_HOME, "data", "export", "train"]


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"effnet_tf.{_HOME[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"effnet_tf.{name}")
    raise AttributeError(f"module 'effnet_tf' has no attribute '{name}'")


def __dir__():
    return sorted({*globals(), *__all__, *_MODULES})
