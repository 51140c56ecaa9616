"""What does a type checker read of a package whose names are loaded when first used?

    python -m tests.helpers.stubs   # writes the .pyi files of effnet_tf's packages anew

`effnet_tf/__init__.pyi` is written by hand: the constructors have types of their own.
"""

import importlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
_HEADER = '"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""'


def lazy_packages() -> list[str]:
    """Returns the packages inside effnet_tf that hand on names by `faces.attach`."""
    return [
        f"effnet_tf.{face.parent.name}"
        for face in sorted((ROOT / "effnet_tf").glob("*/__init__.py"))
        if "faces.attach(" in face.read_text()
    ]


def path_of(package: str) -> pathlib.Path:
    """Returns where the stub of a package lies."""
    return ROOT.joinpath(*package.split("."), "__init__.pyi")


def home_of(package: str, name: str) -> str:
    """Returns the module that defines a name; of a plain value, the one that assigns it."""
    value = getattr(importlib.import_module(package), name)
    home = getattr(value, "__module__", None) or ""
    if home.startswith("effnet_tf.") and getattr(importlib.import_module(home), name, 0) is value:
        return home
    assigned = re.compile(rf"^{name}\b.*=", re.MULTILINE)
    return next(
        module.__name__
        for module in modules_of(package)
        if assigned.search(pathlib.Path(module.__file__).read_text())
    )


def modules_of(package):
    """The modules inside a package."""
    folder = path_of(package).parent
    names = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    return [importlib.import_module(f"{package}.{name}") for name in names]


def text_of(package: str) -> str:
    """Returns the stub of a package."""
    names = importlib.import_module(package).__all__
    imports = sorted((home_of(package, name), name) for name in names)
    lines = [f"from {home} import {name} as {name}\n" for home, name in imports]
    return f"{_HEADER}\n\n{''.join(lines)}\n__all__: list[str]\n"


if __name__ == "__main__":
    for stub in (ROOT / "effnet_tf").glob("*/__init__.pyi"):
        stub.unlink()  # of a package that has become a plain one, too
    for each in lazy_packages():
        path_of(each).write_text(text_of(each))
