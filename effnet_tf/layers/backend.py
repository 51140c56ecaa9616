"""Does Keras run on TensorFlow here? Importing this fails where it does not."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"effnet_tf needs Keras' TensorFlow backend, and Keras runs on "
        f"{keras.backend.backend()} here: unset KERAS_BACKEND, or set it to "
        "tensorflow, before importing keras."
    )
