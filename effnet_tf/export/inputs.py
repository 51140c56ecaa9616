"""What does a model take, under which names in a file, and which numbers is it tried on?"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.export import graph, soundness

IMAGES = "images"  # of a file with one input
Arrays = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
_ROWS = 8
_SIDE, _LENGTH = 64, 4  # where any will do: of images, and of everything else


def names(model: keras.Model) -> list[str]:
    """Returns the names that a file has for the inputs of a model, in their order.

    The only one is "images"; several have the names of their layers, or of a dict, with
    underscores for what no name of a signature may hold.
    """
    if len(model.inputs) == 1:
        return [IMAGES]
    found: list[str] = []
    for name in _keras_names(model):
        name = re.sub(r"\W", "_", name)
        number = found.count(name)
        found.append(name)
        if number:
            found[-1] = f"{name}_{number}"
    return found


def _keras_names(model):
    if isinstance(model._inputs_struct, dict):
        return [path[-1] for path, _ in keras.tree.flatten_with_path(model._inputs_struct)]
    return [graph.source_of(tensor)[0].name for tensor in model.inputs]


def dtype(tensor: keras.KerasTensor) -> str:
    """Returns the type of the numbers that a file takes for an input: floats are float32."""
    kind = keras.backend.standardize_dtype(tensor.dtype)
    if "float" in kind or is_images(tensor):
        return "float32"
    return kind


def is_images(tensor: keras.KerasTensor) -> bool:
    """Whether an input is a batch of images or videos, (N, ..., H, W, C)."""
    return len(tensor.shape) in (4, 5)


def takes_one_image(model: keras.Model) -> bool:
    """Whether a batch of images (N, H, W, C) is all that a model takes."""
    return len(model.inputs) == 1 and len(model.inputs[0].shape) == 4


def noise(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns 8 rows of seeded noise for each input of a model: pixels where it takes images.

    Raises:
        InputError: an input is neither of images nor of numbers.
    """
    random = np.random.default_rng(0)
    return {name: _noise(random, tensor) for name, tensor in zip(names(model), model.inputs)}


def _noise(random, tensor):
    kind, side = dtype(tensor), _LENGTH
    if is_images(tensor):
        side = _SIDE
    shape = [_ROWS, *(each or side for each in tensor.shape[1:])]
    if is_images(tensor):
        if len(shape) == 5:
            shape[1] = tensor.shape[1] or _LENGTH
        return random.integers(0, 256, shape).astype("float32")
    if kind == "float32":
        return random.normal(size=shape).astype("float32")
    if "int" in kind or kind == "bool":
        return random.integers(0, 2, shape).astype(kind)
    raise InputError(
        f"The input '{tensor.name}' takes {kind}; a file can be checked on numbers alone. Turn "
        "them into numbers before the model."
    )


def arranged(what: str, given: Arrays, model: keras.Model) -> dict[str, np.ndarray]:
    """Returns what was given for a model's inputs, by the names that a file has for them.

    Args:
        what: the name of the argument, for messages.
        given: an array for one input; for several a list of arrays in the order of
            `model.inputs`, or a dict of them by name.
        model: a functional `keras.Model`.

    Raises:
        InputError: there is not one array for each input, or one that does not fit.
    """
    wanted = names(model)
    parts = _parts(what, given, model, wanted)
    for name, part, tensor in zip(wanted, parts, model.inputs):
        called = f"{what} images"
        if len(wanted) > 1:
            called = f"{what} arrays of '{name}'"
        soundness.check_array(called, part, tensor.shape[1:])
    if len({len(part) for part in parts}) > 1:
        counts = ", ".join(f"{len(part)} of {name}" for name, part in zip(wanted, parts))
        raise InputError(f"The {what} arrays differ in length: {counts}. Give as many of each.")
    kinds = map(dtype, model.inputs)
    return {name: np.asarray(part, kind) for name, part, kind in zip(wanted, parts, kinds)}


def _parts(what, given, model, wanted):
    """Returns an array for each input, in their order."""
    if len(wanted) == 1:
        return [given]
    if isinstance(given, Mapping):
        if set(given) == set(wanted):
            return [given[name] for name in wanted]
        given = ()
    if isinstance(given, (list, tuple)) and len(given) == len(wanted):
        return list(given)
    raise InputError(
        f"The model '{model.name}' takes {len(wanted)} inputs, {', '.join(wanted)}: {what} must "
        "be a list of an array for each, in this order, or a dict of them by these names."
    )


def packed(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> Any:
    """Returns the arrays of `arranged` or `noise` as a functional model takes them."""
    parts = [arrays[name] for name in names(model)]
    return keras.tree.pack_sequence_as(model._inputs_struct, parts)
