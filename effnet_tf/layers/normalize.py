"""How do pixels become what a network expects?"""

import contextlib
import contextvars
from collections.abc import Iterator, MutableMapping, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from tensorflow.python.eager.record import could_possibly_record

from effnet_tf.errors import InputError
from effnet_tf.layers import (
    backend,  # noqa: F401  refuses other backends of Keras
    lean_passes,
)
from effnet_tf.layers.lean_places import obstacle, under_xla
from effnet_tf.layers.lean_sources import Pixels, note
from effnet_tf.layers.pixel_range import PixelRange
from effnet_tf.layers.shapes import Shape

_hidden: contextvars.ContextVar[bool] = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def hidden_constants() -> Iterator[None]:
    """Lets `Normalize` layers count no weights, for Keras to read a file from when they had none.

    Such a legacy `.h5` lists the weights of all layers in order. The layers keep the
    constants of their configuration.
    """
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


@keras.saving.register_keras_serializable(package="effnet_tf")
class Normalize(keras.layers.Layer):
    """Maps pixels in [0, 255] to `(pixels - mean) / std`.

    It computes in float32 under every dtype policy. Its constants are weights, which do not
    train: whatever carries a model's weights carries them too. They are in its configuration
    as well, as they are when that is asked for.

    The first batch of pixels is looked at: if it seems to be scaled to [0, 1] or [-1, 1]
    already, or to have 16 bits, a warning says so. (Not under XLA, Keras' default on a GPU,
    nor in a tf.function of your own: call the model once on a batch there.)

    Args:
        mean: one float per channel, in grey levels.
        std: one float per channel, in grey levels, not 0.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.

    Attributes:
        mean: weight (C,) float32, once the layer is built; `mean.assign` changes it.
        std: weight (C,) float32.

    Call arguments:
        inputs: uint8 or float images in [0, 255].

    Input shape:
        (N, H, W, C), with C the length of `mean`.

    Output shape:
        (N, H, W, C), in the compute dtype of the layer.

    Raises:
        InputError: `mean` and `std` differ in length, or the input has other channels.

    Example:
        >>> Normalize([127.0], [128.0])(np.full((1, 2, 2, 1), 255, "uint8"))  # all 1.0
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs):
        kwargs.setdefault("autocast", False)  # bfloat16 pixels would lose a grey level
        super().__init__(**kwargs)
        self._made_with = tuple(map(float, mean)), tuple(map(float, std))
        self._range = PixelRange()
        if len(mean) != len(std) or 0.0 in self._made_with[1]:
            raise InputError(
                "Normalize needs a mean and a non-zero std per channel; received "
                f"mean={list(mean)} and std={list(std)}."
            )

    def build(self, input_shape: Shape) -> None:
        mean, std = self._made_with
        if input_shape[-1] != len(mean):
            raise InputError(
                f"Normalize has constants for {len(mean)} channels; received "
                f"an input of shape {tuple(input_shape)}."
            )
        self.mean, self.std = self._add_constant("mean", mean), self._add_constant("std", std)

    def _add_constant(self, name, values):
        return self.add_weight(
            name=name,
            shape=(len(values),),
            initializer=keras.initializers.Constant(list(values)),
            dtype="float32",
            trainable=False,
            autocast=False,
        )

    @property
    def weights(self) -> list[keras.Variable]:
        """Mean and std; none within `hidden_constants`."""
        if _hidden.get():
            return []
        return super().weights

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        pixels = self._range.look(inputs, self.std)
        if could_possibly_record() and obstacle(self.compute_dtype) is None and not under_xla():
            return self._noted(pixels)
        pixels = ops.cast(pixels, "float32")
        # The product that TensorFlow makes of a division by constants: runs from before they were
        # weights go on with the same numbers, to the bit.
        scaled = ops.multiply(ops.subtract(pixels, self.mean), ops.reciprocal(self.std))
        return ops.cast(scaled, self.compute_dtype)

    def _noted(self, pixels):
        """As `call`, for a gradient: what comes next can compute it again."""
        mean, std = (tf.convert_to_tensor(each.value) for each in (self.mean, self.std))
        origin = Pixels(pixels, mean, tf.math.reciprocal(std), self.compute_dtype)
        outputs = tf.cast(lean_passes.scaled(*origin[:3]), self.compute_dtype)
        note(outputs, origin)
        return outputs

    def constants(self) -> tuple[list[float], list[float]]:
        """Returns mean and std as they are now: the shortest decimals, such as 123.675."""
        if not self.built:
            mean, std = self._made_with
            return list(mean), list(std)
        return _decimals(self.mean), _decimals(self.std)

    def save_own_variables(self, store: MutableMapping[str, np.ndarray]) -> None:
        """Writes the constants by their names, as ever."""
        store["mean"], store["std"] = self.mean.numpy(), self.std.numpy()

    def load_own_variables(self, store: MutableMapping[str, np.ndarray]) -> None:
        """Reads them; files of weights without them leave the layer as it is."""
        if "mean" not in store.keys():  # noqa: SIM118  (a store of Keras has keys alone)
            return
        mean, std = np.asarray(store["mean"]), np.asarray(store["std"])
        if mean.shape != self.mean.shape:
            raise InputError(
                f"The file's pixel constants are for {len(mean)} channels, those of layer "
                f"'{self.name}' for {self.mean.shape[0]}."
            )
        self.mean.assign(mean)
        self.std.assign(std)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict:
        mean, std = self.constants()
        return {**super().get_config(), "mean": mean, "std": std}


def _decimals(variable):
    # A float32 as text is the shortest decimal that is read as this float32.
    return [float(str(value)) for value in variable.numpy()]


def follow_weights(layer: keras.layers.Normalization) -> None:
    """Makes a layer of Keras' compute with its weights as they are at each call.

    On its own, `keras.layers.Normalization` computes with copies, which `set_weights`,
    `tf.train.Checkpoint` and what was traced before leave as they were. This holds for
    this very instance, and no saved file knows of it: a layer that was loaded or cloned
    is as Keras makes it.

    Args:
        layer: built, with weights (made without `mean` and `variance`), for the last axis.

    Raises:
        InputError: it is not built, or has its constants in its configuration.
    """
    if not layer.built or layer.input_mean is not None:
        raise InputError(f"Layer '{layer.name}' is not built, or its constants are no weights.")

    def finalize_state():  # Keras calls it when weights are loaded
        layer.mean, layer.variance = layer.adapt_mean, layer.adapt_variance

    layer.finalize_state = finalize_state
    finalize_state()
