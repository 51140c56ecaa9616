"""What do layers that scale pixels compute, in numbers?"""

from collections.abc import Sequence

import keras
import numpy as np

from effnet_tf import layers
from effnet_tf.layers.pixel_scaling import Scaling, deviation_of, scaling, standardising
from effnet_tf.messages import log


def scales(layer: keras.Operation) -> bool:
    """Whether a layer is one that people scale pixels with."""
    kinds = (layers.Normalize, keras.layers.Rescaling, keras.layers.Normalization)
    return isinstance(layer, kinds)


def scaling_of(layer: keras.Operation, rank: int) -> Scaling | None:
    """Returns what a layer computes on tensors of some rank, as far as it is a `Scaling`.

    Args:
        layer: built. A `Normalization` is asked for its weights: Keras computes with a copy
            of them, which whoever assigns to them can leave behind.
        rank: of its input, the batch counted.

    Returns:
        None for a layer that does something else.
    """
    if isinstance(layer, layers.Normalize):
        return _checked(standardising(*layer.constants()))
    if type(layer) is keras.layers.Rescaling:
        return _checked(scaling(layer.scale, layer.offset))
    if type(layer) is keras.layers.Normalization and not layer.invert:
        if layer.axis in ((), (-1,), (rank - 1,)):
            return _checked(_of_normalization(layer))
    return None


def _of_normalization(layer):
    mean, variance = layer.input_mean, layer.input_variance
    if mean is None:
        mean, variance = layer.adapt_mean, layer.adapt_variance
    with np.errstate(divide="ignore"):
        return standardising(mean, deviation_of(variance))


def _checked(found):
    """Returns a `Scaling`; None where it would have no way back, or is of no single shape."""
    if not np.isfinite(found.factor).all() or (found.factor == 0).any() or found.factor.ndim > 1:
        return None
    return found


def scaling_by_number(operation: keras.Operation, arguments: Sequence) -> Scaling | None:
    """Returns what arithmetic with a number does, such as x / 127.5; None for all else.

    Args:
        operation: of `keras.ops`.
        arguments: what it takes, one of them a tensor.
    """
    numbers = [value for value in arguments if isinstance(value, (int, float, np.ndarray))]
    if len(arguments) != 2 or len(numbers) != 1:
        return None
    (number,) = (np.asarray(value, "float64") for value in numbers)
    kind = type(operation).__name__
    if kind == "Multiply":
        return _checked(scaling(number, 0.0))
    if kind == "Add":
        return _checked(scaling(1.0, number))
    if keras.backend.is_keras_tensor(arguments[1]):  # 1 - x, 1 / x
        return None
    if kind == "Subtract":
        return _checked(scaling(1.0, -number))
    if kind in ("Divide", "TrueDivide"):
        with np.errstate(divide="ignore"):
            return _checked(scaling(1 / number, 0.0))
    return None


def make_current(model: keras.Model) -> None:
    """Makes every `Normalization` of a model compute with its weights.

    Keras gives it copies of them when it is built, adapted or loaded; what `set_weights`, a
    `tf.train.Checkpoint` or an assignment brings comes after that.
    """
    for layer in model._flatten_layers():
        if type(layer) is not keras.layers.Normalization or layer.input_mean is not None:
            continue
        if layer.built and not _is_current(layer):
            log.info(
                f"The layer '{layer.name}' computed with other constants than its weights hold; "
                "it takes those of the weights now."
            )
            layer.finalize_state()
            model.predict_function = None  # what was traced has the old ones inside


def _is_current(layer):
    before = np.asarray(layer.mean), np.asarray(layer.variance)
    weights = np.asarray(layer.adapt_mean), np.asarray(layer.adapt_variance)
    return all(
        np.array_equal(old.ravel(), new.astype(old.dtype).ravel())
        for old, new in zip(before, weights)
    )
