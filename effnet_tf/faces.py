"""How does a package hand on names whose modules are imported when first asked for (PEP 562)?

So `import effnet_tf`, counting and `--help` take milliseconds, and need no TensorFlow:

    __getattr__, __dir__, __all__ = faces.attach(__name__, {"build": ("model_fn", "load_model")})
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from effnet_tf import extras


def attach(
    package: str, homes: dict[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Makes what a package needs for names that it hands on.

    Args:
        package: its `__name__`.
        homes: module inside the package -> the names that come from it.

    Returns:
        (`__getattr__`, `__dir__`, `__all__`) of the package.
    """
    home_of = {name: home for home, names in homes.items() for name in names}

    def get(name):
        if name not in home_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(load(f"{package}.{home_of[name]}", name), name)

    def listed():
        return sorted({*vars(sys.modules[package]), *home_of})

    return get, listed, sorted(home_of)


def load(module: str, name: str) -> ModuleType:
    """Imports a module for what is `effnet_tf.NAME`; without TensorFlow, says which package.

    Raises:
        MissingTensorFlow: TensorFlow is not installed, and the module needs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tensorflow", "keras"):
            raise
        extras.require(f"effnet_tf.{name}", "tensorflow", "keras")
        raise  # both are there: one of them lacks a part of itself
