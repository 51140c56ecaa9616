"""What do layers that scale pixels compute, in numbers?"""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from effnet_tf import layers
from effnet_tf.messages import log


@dataclasses.dataclass(frozen=True)
class Scaling:
    """The function x * factor + shift, for each channel.

    Attributes:
        factor: a number or (C,), none of them 0.
        shift: of the same shape.
    """

    factor: np.ndarray
    shift: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """What x is when the function is 0: its mean."""
        return 0.0 - self.shift / self.factor

    @property
    def deviation(self) -> np.ndarray:
        """What divides x after its mean has been subtracted."""
        return 1 / self.factor

    def then(self, other: "Scaling") -> "Scaling":
        """Returns the function that does this one first and then `other`."""
        shift = self.shift * other.factor + other.shift
        return Scaling(*np.broadcast_arrays(self.factor * other.factor, shift))


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
        return _of_statistics(*layer.constants())
    if type(layer) is keras.layers.Rescaling:
        factor, shift = (np.asarray(value, "float64") for value in (layer.scale, layer.offset))
        return _checked(factor, shift)
    if type(layer) is keras.layers.Normalization and not layer.invert:
        if layer.axis in ((), (-1,), (rank - 1,)):
            return _of_statistics(*statistics_of(layer))
    return None


def statistics_of(layer: keras.layers.Normalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns (mean, standard deviation) of a built `Normalization`, numbers or (C,)."""
    mean, variance = layer.input_mean, layer.input_variance
    if mean is None:
        mean, variance = layer.adapt_mean, layer.adapt_variance
    mean, variance = (np.asarray(value, "float64") for value in (mean, variance))
    return mean, np.maximum(np.sqrt(variance), keras.config.epsilon())


def _of_statistics(mean, std):
    mean, std = (np.asarray(value, "float64") for value in (mean, std))
    return _checked(1 / std, -mean / std)


def _checked(factor, shift):
    """Returns a `Scaling`; None where it would have no way back, or is of no single shape."""
    if not np.isfinite(factor).all() or (factor == 0).any() or max(factor.ndim, shift.ndim) > 1:
        return None
    return Scaling(*np.broadcast_arrays(factor, shift))


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
    kind, one, zero = type(operation).__name__, np.ones_like(number), np.zeros_like(number)
    if kind == "Multiply":
        return _checked(number, zero)
    if kind == "Add":
        return _checked(one, number)
    if keras.backend.is_keras_tensor(arguments[1]):  # 1 - x, 1 / x
        return None
    if kind == "Subtract":
        return _checked(one, -number)
    if kind in ("Divide", "TrueDivide"):
        with np.errstate(divide="ignore"):
            return _checked(1 / number, zero)
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
