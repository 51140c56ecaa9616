"""How are layers made whose weights are known already, in float32 and each under its own name?"""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np


class Emitter:
    """Makes the layers of a folded model, and calls them on its tensors.

    A layer that is called twice is made once: a network with two inputs of one kind (siamese)
    has its weights once. Layers without weights are cheap, and made again.

    Args:
        names: that are taken already, those of the inputs.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._copies: dict[int, keras.Operation] = {}  # by id of the layer
        self._convolutions: dict[tuple, keras.Layer] = {}
        self._names = set(names)

    def name(self, wanted: str) -> str:
        """Returns `wanted`, or the first free name_2, name_3 ..: shared layers come again."""
        free, number = wanted, 1
        while free in self._names:
            number += 1
            free = f"{wanted}_{number}"
        self._names.add(free)
        return free

    def release(self, name: str) -> None:
        """Gives a name back: its layer has no way to the outputs any more."""
        self._names.discard(name)

    def copy(self, layer: keras.Operation, name: str | None = None) -> keras.Operation:
        """Returns a float32 copy of a layer, once; what is no layer, such as x + y, itself.

        `name` is that of the copy; by default the layer's.
        """
        if not isinstance(layer, keras.layers.Layer):
            return layer
        if id(layer) not in self._copies:
            name = self.name(name or layer.name)
            try:
                copy = _copied(layer, name)
            except Exception:  # whatever a layer of the user's raises: not all can be copied
                copy = _Unchanged(layer, name)
            self._copies[id(layer)] = copy
        return self._copies[id(layer)]

    def convolution(
        self,
        layer: keras.Layer,
        x: keras.KerasTensor,
        weights: Sequence[np.ndarray],
        *,
        name: str,
        padding: str,
        key: tuple,
        routing: tuple[keras.KerasTensor, ...] = (),
    ) -> keras.KerasTensor:
        """Returns what a linear convolution gives.

        Args:
            layer: has its configuration, but for the activation.
            x: (N, H, W, C), what it takes.
            weights: its kernel, and its bias if it has one.
            name: of the new layer, if it is free.
            padding: "same" or "valid".
            key: what tells these weights from all others; with the same one the layer that is
                there is called again.
            routing: the weights of its experts, (N, experts), if it has some.
        """
        key = (*key, padding)
        if key in self._convolutions:
            return self._convolutions[key](x, *routing)
        config = {
            **layer.get_config(),
            "dtype": "float32",
            "name": self.name(name),
            "padding": padding,
            "activation": "linear",
            "use_bias": len(weights) == 2,
        }
        # To draw numbers that are replaced at once would be a third of all work here.
        config |= {each: "zeros" for each in config if each.endswith("_initializer")}
        made = self._convolutions[key] = type(layer).from_config(config)
        outputs = made(x, *routing)
        made.set_weights(weights)
        return outputs

    def activation(
        self, function: Callable | str | None, x: keras.KerasTensor, name: str
    ) -> keras.KerasTensor:
        """Returns what an activation, a function or its name, gives; `name` is its layer's."""
        if keras.activations.get(function) is keras.activations.linear:
            return x
        return keras.layers.Activation(function, name=self.name(name), dtype="float32")(x)

    def mean(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Returns the mean over a map (N, H, W, C), (N, 1, 1, C)."""
        return keras.layers.GlobalAveragePooling2D(
            data_format="channels_last", keepdims=True, name=self.name(name), dtype="float32"
        )(x)

    def product(self, factors: list[keras.KerasTensor], name: str) -> keras.KerasTensor:
        """Returns the product of tensors."""
        return keras.layers.Multiply(name=self.name(name), dtype="float32")(factors)

    def sum(self, terms: list[keras.KerasTensor], name: str) -> keras.KerasTensor:
        """Returns the sum of tensors."""
        return keras.layers.Add(name=self.name(name), dtype="float32")(terms)


def _copied(layer, name):
    copy = type(layer).from_config({**layer.get_config(), "dtype": "float32", "name": name})
    if layer.weights:
        copy.build_from_config(layer.get_build_config())
        copy.set_weights(layer.get_weights())
    for part in copy._flatten_layers():
        if isinstance(part, keras.layers.Normalization):
            part.finalize_state()  # it computes with copies of its weights
    return copy


class _Unchanged(keras.layers.Layer):
    """A layer that cannot be copied. Called here, it does not get another place in a graph."""

    def __init__(self, layer, name):
        super().__init__(name=name, dtype="float32", autocast=False)
        self.layer = layer
        self._options = {}
        if layer._call_has_training_arg:
            self._options = {"training": False}

    def build(self, input_shape):
        pass

    def call(self, inputs):
        return keras.tree.map_structure(_float32, self.layer(inputs, **self._options))


def _float32(tensor):
    if keras.backend.is_float_dtype(tensor.dtype):
        return keras.ops.cast(tensor, "float32")
    return tensor
