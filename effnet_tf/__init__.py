"""EfficientNet for Keras 3 and TensorFlow: models, training, export.

Names that need TensorFlow are loaded when first used (PEP 562), so that
`import effnet_tf`, parameter counts and `--help` take milliseconds without it.
"""

import importlib

from effnet_tf import extras
from effnet_tf.config import VARIANTS, Block, CompoundScaling, Stage, Variant, blocks
# Here and not below: the function must win over its module of the same name.
from effnet_tf.cost import Cost, cost
from effnet_tf.errors import InputError
from effnet_tf.extras import MissingPackage, MissingTensorFlow
from effnet_tf.recipe import RECIPES, Recipe

__version__ = "0.1.0"

# The public names that need TensorFlow, by the module that defines them.
_LAZY = {
    "layers": ("BatchNorm", "DropConnect", "Dropout", "Normalize", "SqueezeExcite"),
    "mbconv": ("FusedMBConv", "MBConv"),
    "optim": ("AdamW", "LARS", "RMSprop", "SGD", "WarmupCosine", "WarmupPolynomial",
              "WarmupStaircase"),
    "finetune": ("set_trainable",),
    "published": ("decode_predictions", "preprocess_input"),
    "weights": ("LoadReport", "load_weights"),
    "model": (
        "model_fn", "feature_extractor", "load_model",
        *(f"EfficientNetB{n}" for n in range(9)), "EfficientNetL2",
        *(f"EfficientNetLite{n}" for n in range(5)),
        *(f"EfficientNetEdgeTPU{size}" for size in ("Small", "Medium", "Large"))),
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}
_MODULES = (*_LAZY, "augment", "checkpoints", "data", "diagnosis", "dryrun", "export", "formats",
            "interruption", "names", "plots", "policies", "rundir", "step", "strategy", "train",
            "trainer", "watch", "worker")

__all__ = ["VARIANTS", "Block", "CompoundScaling", "Cost", "InputError", "MissingPackage",
           "MissingTensorFlow", "RECIPES", "Recipe", "Stage", "Variant", "blocks", "cost", "data",
           "export", "train", *_HOME]


def __getattr__(name):
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module 'effnet_tf' has no attribute '{name}'")
    try:
        module = importlib.import_module(f"effnet_tf.{_HOME.get(name, name)}")
    except ModuleNotFoundError as error:
        if error.name not in ("tensorflow", "keras"):
            raise
        extras.require(f"effnet_tf.{name}", "tensorflow", "keras")
        raise  # both are there: one of them lacks a part of itself
    return getattr(module, name) if name in _HOME else module


def __dir__():
    return sorted({*globals(), *__all__, *_MODULES})
