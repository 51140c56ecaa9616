"""How do pixels become what a network expects, and are they pixels at all?"""

import warnings
from collections.abc import MutableMapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from effnet_tf.layers import backend  # noqa: F401  refuses other backends of Keras
from effnet_tf.layers.shapes import Shape


@keras.saving.register_keras_serializable(package="effnet_tf")
class Normalize(keras.layers.Layer):
    """Maps pixels in [0, 255] to `(pixels - mean) / std`.

    It computes in float32 under every dtype policy. Its constants are no variables, so
    that a model is the same network whatever weights it was made with; they are saved
    with it, in `.keras` and `.weights.h5` files.

    The first batch of float pixels is looked at: if it seems to be scaled to [0, 1] or
    [-1, 1] already, a warning says so. (Not under XLA, Keras' default on a GPU, nor in a
    tf.function of your own: call the model once on a batch there.)

    Args:
        mean: one float per channel, in grey levels.
        std: one float per channel, in grey levels, not 0.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Call arguments:
        inputs: uint8 or float images in [0, 255].

    Input shape:
        (N, H, W, C), with C the length of `mean`.

    Output shape:
        (N, H, W, C), in the compute dtype of the layer.

    Raises:
        ValueError: `mean` and `std` differ in length, or the input has other channels.

    Example:
        >>> Normalize([127.0], [128.0])(np.full((1, 2, 2, 1), 255, "uint8"))  # all 1.0
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs):
        kwargs.setdefault("autocast", False)  # bfloat16 pixels would lose a grey level
        super().__init__(**kwargs)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]
        self._range_seen = False
        if len(self.mean) != len(self.std) or 0.0 in self.std:
            raise ValueError(
                "Normalize needs a mean and a non-zero std per channel; received "
                f"mean={self.mean} and std={self.std}."
            )

    def build(self, input_shape: Shape) -> None:
        if input_shape[-1] != len(self.mean):
            raise ValueError(
                f"Normalize has constants for {len(self.mean)} channels; received "
                f"an input of shape {tuple(input_shape)}."
            )
        self.built = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        pixels = ops.cast(inputs, "float32")
        if not self._range_seen and "float" in keras.backend.standardize_dtype(inputs.dtype):
            pixels = self._look_at_range(pixels)
        return ops.cast((pixels - self.mean) / self.std, self.compute_dtype)

    def _look_at_range(self, pixels):
        """Returns the pixels; arranges that `_warn_of_range` sees the first real ones."""
        if tf.executing_eagerly():
            self._warn_of_range(tf.reduce_min(pixels), tf.reduce_max(pixels))
        elif _in_keras_loop():
            seen = tf.numpy_function(
                self._warn_of_range, [tf.reduce_min(pixels), tf.reduce_max(pixels)], []
            )
            with tf.control_dependencies([seen]):
                return tf.identity(pixels)
        return pixels

    def _warn_of_range(self, low, high):
        if self._range_seen or high <= low:  # a constant image says nothing
            return
        self._range_seen = True
        if max(self.std) > 10 and high <= 5 and low >= -5:
            warnings.warn(
                f"The first images lie between {low:.3g} and {high:.3g}, as if "
                f"{_apparent_scaling(low, high)}, but this model takes pixels in [0, 255] and "
                "normalises them itself. Leave out that step, or build the model with "
                "preprocessing=False if it is intended.",
                stacklevel=2,
            )

    def save_own_variables(self, store: MutableMapping[str, np.ndarray]) -> None:
        """Writes the constants, which are no variables, among the weights."""
        store["mean"], store["std"] = np.asarray(self.mean), np.asarray(self.std)

    def load_own_variables(self, store: MutableMapping[str, np.ndarray]) -> None:
        """Reads them; files of weights without them leave the layer as it is."""
        if "mean" in store.keys():  # noqa: SIM118  (a store of Keras has keys alone)
            self.mean = np.asarray(store["mean"]).tolist()
            self.std = np.asarray(store["std"]).tolist()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict:
        return {**super().get_config(), "mean": self.mean, "std": self.std}


def follow_weights(layer: keras.layers.Normalization) -> None:
    """Makes a layer of Keras' compute with its weights as they are at each call.

    On its own, `keras.layers.Normalization` computes with copies, which `set_weights`,
    `tf.train.Checkpoint` and what was traced before leave as they were. This holds for
    this very instance, and no saved file knows of it: a layer that was loaded or cloned
    is as Keras makes it.

    Args:
        layer: built, with weights (made without `mean` and `variance`), for the last axis.

    Raises:
        ValueError: it is not built, or has its constants in its configuration.
    """
    if not layer.built or layer.input_mean is not None:
        raise ValueError(f"Layer '{layer.name}' is not built, or its constants are no weights.")

    def finalize_state():  # Keras calls it when weights are loaded
        layer.mean, layer.variance = layer.adapt_mean, layer.adapt_variance

    layer.finalize_state = finalize_state
    finalize_state()


def _apparent_scaling(low, high):
    if low >= 0 and high <= 1:
        return "scaled to [0, 1]"
    if low >= -1 and high <= 1:
        return "scaled to [-1, 1]"
    return "normalised already"


def _in_keras_loop():
    """Whether a step of fit, evaluate or predict is being traced, and not for XLA.

    Only there may an operation call back to Python: a model that is exported, or
    compiled for a TPU, must not hold one.
    """
    graph, inside = tf.compat.v1.get_default_graph(), False
    while graph is not None:
        context = graph._get_control_flow_context()
        if context is not None and context.IsXLAContext():
            return False
        inside |= getattr(graph, "name", "").startswith(("one_step_on_", "multi_step_on_"))
        graph = getattr(graph, "outer_graph", None)
    return inside
