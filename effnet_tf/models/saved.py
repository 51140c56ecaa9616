"""How does a saved model become a Keras model again?"""

import os
from collections.abc import Callable, Mapping

import keras

# Registers what a file may hold.
from effnet_tf import (
    layers,  # noqa: F401
    optim,  # noqa: F401
)
from effnet_tf.weights import claims, loading


def load_model(
    path: str | os.PathLike,
    compile: bool = True,
    custom_objects: Mapping[str, type | Callable] | None = None,
    safe_mode: bool = True,
) -> keras.Model:
    """Loads a `.keras` or `.h5` file, and looks at it before and after.

    As `keras.saving.load_model`, for any model of Keras'.

    Args:
        path: the file.
        compile: whether to restore the optimiser, loss and metrics too.
        custom_objects: {name: class or function} of yours that the file holds.
        safe_mode: whether to refuse files that hold code of their own (Lambda layers).

    Returns:
        The `keras.Model`.

    Raises:
        InputError: the file reaches outside itself, claims more than it can hold, or has
            weights that are not finite.
    """
    claims.check_keras_file(str(path))
    model = keras.saving.load_model(
        path, custom_objects=custom_objects, compile=compile, safe_mode=safe_mode
    )
    loading.refuse_not_finite(path, _float_weights(model))
    return model


def _float_weights(model):
    found = [variable for variable in model.weights if "float" in variable.dtype]
    return {variable.path: variable.numpy() for variable in found}
