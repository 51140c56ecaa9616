"""How does a package hand on names whose modules are imported when first asked for (PEP 562)?

So `import effnet_tf`, counting and `--help` take milliseconds, and need no TensorFlow:

    __getattr__, __dir__, __all__ = faces.attach(__name__, {"build": ("model_fn", "load_model")})

Only Keras must know some classes before anybody asks for them: see `register_with_keras`.
"""

import importlib
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from effnet_tf import extras
from effnet_tf.errors import first_line


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
        here = vars(sys.modules[package])
        return sorted({*here["__all__"], *(name for name in here if name.startswith("__"))})

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


# --- what Keras must know -----------------------------------------------------------------------


def register_with_keras(*modules: str) -> None:
    """Imports modules that register classes with Keras as soon as Keras itself is there.

    Keras finds the classes of a saved model among the registered ones, and imports nothing
    for it: `import effnet_tf` has to do, before `import keras` or after it, and without
    importing Keras, which takes seconds.

    Args:
        modules: such as "effnet_tf.layers".
    """

    def register():
        if sys.modules["keras"].backend.backend() != "tensorflow":
            return  # nothing of ours runs there
        try:
            for module in modules:
                importlib.import_module(module)
        except Exception as error:  # of a broken installation, which is not Keras' fault
            warnings.warn(
                f"effnet_tf could not register its layers with Keras: {first_line(error)}",
                stacklevel=2,
            )

    # TensorFlow imports Keras before it is complete itself, and the other way round.
    after_import("keras", register, together_with=["tensorflow"])


def after_import(
    package: str, action: Callable[[], None], together_with: Sequence[str] = ()
) -> None:
    """Calls a function once a package has been imported: at once if it is there already.

    Args:
        package: the name of a package of the top level.
        action: takes nothing; is called once, in the thread that imports the package.
        together_with: packages that may be importing this one: they have to be complete too.
    """
    if package in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _AfterImport(package, action, together_with))


class _AfterImport:
    """A finder for `sys.meta_path` that lets the others find, and notes what they load.

    An import that fails changes nothing; the next attempt is watched as well.
    """

    def __init__(self, package, action, together_with):
        self._package, self._action = package, action
        self._watched = (package, *together_with)
        self._lock, self._loading = threading.Lock(), 0

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns what the finders after this one find, to be watched while it is loaded."""
        if name not in self._watched:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader)
        return spec

    def _watch(self, loader):
        load = loader.exec_module

        def exec_module(module):
            with self._lock:
                self._loading += 1
            try:
                load(module)
            finally:
                with self._lock:
                    self._loading -= 1
            self._act_if_complete()

        loader.exec_module = exec_module

    def _act_if_complete(self):
        with self._lock:
            complete = not self._loading and self._package in sys.modules
            if not complete or self not in sys.meta_path:
                return
            sys.meta_path.remove(self)
        self._action()
