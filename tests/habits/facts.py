"""What is looked at when a program of theirs is compared with ours?"""

import keras
import numpy as np


def batch(count=4, side=32, channels=3, seed=0):
    """Returns images (N, H, W, C) with pixels in [0, 255], float32."""
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side, channels)).astype("float32")


IMAGES = batch()
LABELS = np.array([0, 1, 2, 0])
ONE_HOT = np.eye(3, dtype="float32")[LABELS]


def count(weights):
    """Returns the number of parameters in some variables."""
    return sum(int(np.prod(weight.shape)) for weight in weights)


def values(model):
    """Returns what the variables of a model are now."""
    return {weight.path: np.array(weight) for weight in model.weights}


def moved(model, before):
    """Returns the paths of the variables that are no longer what `values` found.

    A gradient of rounding alone, as of what a batch norm behind takes away, moves nothing.
    """
    after = values(model)
    return sorted(path for path in after if np.abs(after[path] - before[path]).max() > 1e-7)


def trainable(model):
    """Returns (parameters that train, parameters in all)."""
    return count(model.trainable_weights), count(model.weights)


def shape(tensor):
    """Returns a shape without its batch size."""
    return list(tensor.shape[1:])


def norm(array):
    """Returns the length of an array, as one number that depends on all of it."""
    return float(np.linalg.norm(keras.ops.convert_to_numpy(array).astype("float64")))


def history(fitted):
    """Returns what `fit` recorded, a list of floats per metric."""
    return {name: [float(value) for value in found] for name, found in fitted.history.items()}


def outcome(function):
    """Returns what a function returns, or the kind of its ValueError or TypeError."""
    try:
        return function()
    except ValueError:
        return "ValueError"
    except TypeError:
        return "TypeError"


HALF = 0.1  # tolerances from here on are for bfloat16
FAILS = "does not work"


def attempt(function):
    """Returns what a function returns, or that it fails: then ours may do it, all the same."""
    try:
        return function()
    except Exception:
        return FAILS


def same(theirs, ours, tolerance, where=""):
    """Compares two results; returns a line per difference."""
    if isinstance(theirs, str) and theirs == FAILS:
        return []
    if isinstance(theirs, dict):
        if not isinstance(ours, dict) or list(theirs) != list(ours):
            return [f"{where}: {_brief(theirs)} and {_brief(ours)}"]
        pairs = [(f"{where}.{key}", theirs[key], ours[key]) for key in theirs]
    elif isinstance(theirs, (list, tuple)):
        if not isinstance(ours, (list, tuple)) or len(theirs) != len(ours):
            return [f"{where}: {_brief(theirs)} and {_brief(ours)}"]
        pairs = [(f"{where}[{i}]", *both) for i, both in enumerate(zip(theirs, ours))]
    else:
        return _same_leaf(theirs, ours, tolerance, where)
    return [line for at, left, right in pairs for line in same(left, right, tolerance, at)]


def _same_leaf(theirs, ours, tolerance, where):
    if isinstance(theirs, (float, np.floating)) or getattr(theirs, "ndim", 0):
        if np.shape(theirs) != np.shape(ours):
            return [f"{where}: shapes {np.shape(theirs)} and {np.shape(ours)}"]
        if _close(np.asarray(theirs, "float64"), np.asarray(ours, "float64"), tolerance):
            return []
    elif theirs == ours:
        return []
    return [f"{where}: {_brief(theirs)} and {_brief(ours)}"]


def _close(theirs, ours, tolerance):
    """Number by number; where half the bits are missing, by the length of the difference."""
    if tolerance < HALF:
        return np.allclose(theirs, ours, rtol=tolerance, atol=tolerance, equal_nan=True)
    return np.linalg.norm(theirs - ours) <= tolerance * (np.linalg.norm(theirs) + tolerance)


def _brief(value):
    if isinstance(value, dict):
        value = list(value)
    return repr(value)[:200]
