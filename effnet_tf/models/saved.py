"""How does a saved model become a Keras model again?"""

import contextlib
import os
import re
from collections.abc import Callable, Mapping

import h5py
import keras

from effnet_tf import (
    layers,
    optim,  # noqa: F401  registers what a file may hold
    storage,
)
from effnet_tf.models import trained
from effnet_tf.weights import claims, loading, pixels

_DEEPEST = 2000  # layers of what a file may hold; EfficientNetV2-XL has 1,300


def load_model(
    path: str | os.PathLike,
    compile: bool = True,
    custom_objects: Mapping[str, type | Callable] | None = None,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a `.keras` or `.h5` file, and looks at it before and after.

    As `keras.saving.load_model`, for any model of Keras'. A flat network (that of the
    constructors) computes with its pixel constants as they are at each call, as it did when
    it was made; Keras' own function makes it compute with copies of them.

    Args:
        path: the file; or the directory of a run, which gives its trained network, see
            `load_run`.
        compile: whether to restore the optimiser, loss and metrics too.
        custom_objects: {name: class or function} of yours that the file holds.
        safe_mode: whether to refuse files that hold code of their own (Lambda layers).

    Returns:
        The `keras.Model`.

    Raises:
        InputError: the file reaches outside itself, claims more than it can hold, or has
            weights that are not finite.
    """
    if storage.exists(os.path.join(os.fspath(path), "recipe.json")):
        return trained.load_run(path)
    claims.check_keras_file(str(path))
    layers.allow_depth(_DEEPEST)
    with _as_saved(str(path)):
        model = keras.saving.load_model(
            path, custom_objects=custom_objects, compile=compile, safe_mode=safe_mode
        )
    pixels.follow_constants(model)
    loading.refuse_not_finite(path, _float_weights(model))
    return model


def _float_weights(model):
    found = [variable for variable in model.weights if "float" in variable.dtype]
    return {variable.path: variable.numpy() for variable in found}


def _as_saved(path):
    """Returns the context to load in: a legacy .h5 may be from when `Normalize` had no weights."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as root:
            config, paths = str(root.attrs.get("model_config")), []
            root.visit(paths.append)
        if "Normalize" in config and not any(re.search(r"/std(:0)?$", each) for each in paths):
            return layers.hidden_constants()
    return contextlib.nullcontext()
