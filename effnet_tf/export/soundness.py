"""Can a file be made of these weights and these images at all?

Looked at before anything is converted, since converters and delegates end in raw text, or
in a crash, on numbers that are not finite.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from effnet_tf.errors import InputError

LARGEST_HALF = 65504.0  # of float16
PIXELS = 255.0


def check_weights(model: keras.Model) -> None:
    """Raises InputError if a weight of a model holds a number that is not finite."""
    for weight in model.weights:
        if "float" not in keras.backend.standardize_dtype(weight.dtype):
            continue
        values = np.asarray(weight).astype("float32")
        wrong = values[~np.isfinite(values)]
        if wrong.size:
            raise InputError(
                f"{wrong.size} of the {values.size} numbers in the weight '{weight.path}' of the "
                f"model '{model.name}' are not finite (the first is {wrong[0]}): no file can be "
                "made of them. Was the file damaged, or did training diverge? Take an earlier "
                "checkpoint."
            )


def check_half(folded: keras.Model) -> None:
    """Raises InputError if a weight of a model of `fold` is too large for float16."""
    for weight in folded.weights:
        largest = np.abs(np.asarray(weight), dtype="float32").max(initial=0)
        if largest > LARGEST_HALF:
            raise InputError(
                f"The weight '{weight.path}', batch norm folded, goes up to "
                f"{largest:.3g}; float16 ends at {LARGEST_HALF:g}. Choose another "
                "quantize."
            )


def check_array(name: str, array: np.ndarray, wanted: Sequence[int | None]) -> None:
    """Raises InputError unless there are finite numbers of the shape that is wanted.

    Args:
        name: of what was given, in the plural.
        array: (N, ...), N > 0.
        wanted: the sides after N, None where any will do.
    """
    shape = np.shape(array)
    fits = (
        len(shape) == 1 + len(wanted)
        and shape[0]
        and all(side in (None, given) for side, given in zip(wanted, shape[1:]))
    )
    if not fits:
        raise InputError(
            f"The {name} are {shape}; they must be "
            f"(N, {', '.join(str(side or 'any') for side in wanted)})."
        )
    wrong = ~np.isfinite(array).all(axis=tuple(range(1, len(shape))))
    if wrong.any():
        raise InputError(
            f"The {name} hold numbers that are not finite: {_numbers(wrong)} of {len(wrong)}."
        )


def check_calibration(images: np.ndarray, normalizes: bool) -> None:
    """Raises InputError if images tell nothing of the ranges that others have.

    Args:
        images: (N, H, W, C) finite numbers.
        normalizes: whether the model takes pixels in [0, 255].
    """
    images = np.asarray(images)
    if not (images != images[:, :1, :1]).any():
        colour = ", ".join(f"{value:g}" for value in images[0, 0, 0])
        raise InputError(
            f"All of the {len(images)} calibration image(s) have a single colour each, the first "
            f"one ({colour}): they tell nothing of the ranges in other images. Give some hundred "
            "images as the network will see them."
        )
    low, high = float(images.min()), float(images.max())
    if normalizes and (high <= 1 or high > 2 * PIXELS or low < -PIXELS):
        raise InputError(
            f"The calibration images lie in [{low:g}, {high:g}], but this model takes pixels in "
            f"[0, {PIXELS:g}]: scale them to that."
        )


def not_finite(folded: keras.Model, inputs: Mapping[str, np.ndarray], scores: np.ndarray) -> str:
    """Returns the sentence on a model that gives numbers that are not finite.

    Args:
        folded: a model of `fold`, in float32.
        inputs: by name, an array (N, ...) for each input.
        scores: (N, ...) what the model gave for them.
    """
    wrong = ~np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
    where = (
        f"The model '{folded.name}' gives numbers that are not finite for {wrong.sum()} of "
        f"{len(wrong)} images ({_numbers(wrong)})"
    )
    layer = _first_not_finite(folded, [each[wrong][:1] for each in inputs.values()])
    if layer is None:
        return f"{where}, but not when it computes in float32: its numbers are too large."
    return (
        f"{where}; the layer '{layer}' is the first to do so. Look at its weights, and at the "
        "range of the pixels."
    )


def _first_not_finite(folded, inputs):
    """Returns the name of the first layer whose result is not finite, or None."""
    layers = [layer for layer in folded.layers if not isinstance(layer, keras.layers.InputLayer)]
    outputs = [layer.output for layer in layers]
    results = keras.Model(folded.inputs, outputs)(inputs)
    for layer, result in zip(layers, keras.tree.flatten(results)):
        if not np.isfinite(result).all():
            return layer.name
    return None


def _numbers(wrong):
    """Returns "number 3" or "numbers 0, 4, 5, ..." of the images that are wrong."""
    numbers = np.flatnonzero(wrong)
    shown = ", ".join(map(str, numbers[:5]))
    more = ""
    if len(numbers) > 5:
        more = ", ..."
    if len(numbers) == 1:
        return f"number {shown}"
    return f"numbers {shown}{more}"
