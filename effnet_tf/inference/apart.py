"""How does a program of this package do its work where a damaged file can do no harm?"""

import os
from collections.abc import Callable
from typing import Any

from effnet_tf import extras, isolated
from effnet_tf.errors import InputError


def run(work: Callable[..., None], arguments: dict[str, Any], reads: bool = False) -> None:
    """Runs a program's work in a process of its own, which a damaged file may kill.

    Args:
        work: a function of a module, of `arguments`.
        arguments: its keywords; "what" is the network.
        reads: whether it reads standard input.

    Raises:
        InputError: it raised one, or its process has ended: the network cannot be used then.
    """
    try:
        isolated.call((work, arguments), shown=True, reads=reads)
    except isolated.WorkerError as error:
        raise InputError(f"'{arguments['what']}' cannot be used: {error.reason}.") from error


def check_picture(path: str) -> None:
    """Raises InputError unless a picture can be drawn at a path: before anything takes long."""
    extras.load("matplotlib.figure", f"The picture '{path}'")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise InputError(f"There is no folder for the picture '{path}'.")
