"""Which tensors of a network share the scale of their channels, and who writes and reads them?

Where a convolution's result reaches the next ones through linear operations alone, channel c
can be divided by any s_c > 0 before and multiplied by it after: the same function. `links`
finds these places in the models of `fold`; equalization.py chooses the factors.
"""

import collections
import dataclasses

import keras
import numpy as np

from effnet_tf.export import graph

_KERNELS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
# Scaling a channel by s > 0 before them is scaling it after them.
_PASSING = (
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.MaxPooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.ZeroPadding2D,
    keras.layers.Cropping2D,
)
_SUMS = (keras.layers.Add, keras.src.ops.numpy.Add)  # the second: x + y
_HOMOGENEOUS = (keras.activations.linear, keras.activations.relu)  # f(s x) = s f(x)


@dataclasses.dataclass(frozen=True)
class Link:
    """Tensors whose C channels can be rescaled together.

    Attributes:
        producers: layers whose kernel's output channels, and biases, are divided.
        consumers: layers whose kernel's input channels are multiplied.
        tensors: the `KerasTensor`s (N, ..., C) between them.
    """

    producers: tuple
    consumers: tuple
    tensors: tuple

    def __str__(self):
        producers = ", ".join(layer.name for layer in self.producers)
        consumers = ", ".join(layer.name for layer in self.consumers)
        return f"{producers} -> {consumers}"

    def scale(self, factors: np.ndarray) -> None:
        """Divides the producers' channels by `factors`, (C,) > 0; multiplies the consumers'."""
        factors = np.asarray(factors, "float64")
        for layer in self.producers:
            kernel, *bias = layer.get_weights()
            flat = kernel
            if is_depthwise(layer):  # (k, k, C, M)
                flat = kernel.reshape(*kernel.shape[:2], -1)
            scaled = (flat / factors).reshape(kernel.shape)
            layer.set_weights(
                [
                    scaled.astype("float32"),
                    *((values / factors).astype("float32") for values in bias),
                ]
            )
        for layer in self.consumers:
            kernel, *bias = layer.get_weights()
            layer.set_weights([(kernel * factors[:, np.newaxis]).astype("float32"), *bias])


def links(model: keras.Model) -> list[Link]:
    """Returns the `Link`s of a functional `keras.Model`, from input to output.

    Whatever it does not know (another activation, a product, weights that are used twice, an
    output of the model) keeps the scale of the tensors that it touches.
    """
    calls = graph.nodes(model)
    shared = graph.shared(calls)
    spaces = _Spaces()
    for node in calls:
        spaces.visit(node, node.operation not in shared)
    spaces.close(*model.inputs, *model.outputs)
    return spaces.links()


class _Spaces:
    """Finds the tensors that share their channels' scale, and who writes and reads them."""

    def __init__(self):
        self._tensors, self._above = {}, {}  # by id; the second is a union-find
        self._producers, self._consumers = {}, collections.defaultdict(list)
        self._closed = set()

    def visit(self, node, is_alone):
        """Takes in a call of an operation; `is_alone`: whether it shares no weights."""
        operation, inputs, output = node.operation, node.input_tensors, node.outputs[0]
        self._tensors.update((id(tensor), tensor) for tensor in (*inputs, output))
        if is_kernel(operation) and is_alone:
            self._consumers[id(inputs[0])].append(operation)
            self._producers[id(output)] = operation
            if operation.activation not in _HOMOGENEOUS:
                self.close(output)
        elif _keeps_scale(operation, inputs):
            for tensor in inputs:
                self._above[self._root(id(tensor))] = self._root(id(output))
        else:
            self.close(*inputs, *node.outputs)

    def close(self, *tensors):
        """Says that these must keep their scale."""
        self._closed.update(map(id, tensors))

    def _root(self, key):
        while self._above.setdefault(key, key) != key:
            key = self._above[key]
        return key

    def links(self) -> list[Link]:
        """Returns the `Link`s."""
        groups = collections.defaultdict(list)
        for key in self._tensors:
            groups[self._root(key)].append(key)
        open_groups = [keys for keys in groups.values() if not self._closed.intersection(keys)]
        found = map(self._link, open_groups)
        return [link for link in found if link.producers and link.consumers]

    def _link(self, keys):
        return Link(
            tuple(self._producers[key] for key in keys if key in self._producers),
            tuple(layer for key in keys for layer in self._consumers.get(key, ())),
            tuple(self._tensors[key] for key in keys),
        )


def is_kernel(operation: keras.Operation) -> bool:
    """Whether it is a convolution or dense layer whose channels are those of its kernel."""
    return (
        type(operation) in _KERNELS
        and getattr(operation, "groups", 1) == 1
        and _has_channels_last(operation)
        and len(operation.weights) == 1 + operation.use_bias
    )


def _keeps_scale(operation, inputs):
    """Whether it does to scaled channels what it does to others."""
    if type(operation) in _SUMS:
        return len(inputs) > 1 and len({tensor.shape[-1] for tensor in inputs}) == 1
    return _is_homogeneous(operation) or (
        type(operation) in _PASSING and _has_channels_last(operation)
    )


def _is_homogeneous(operation):
    """Whether it is linear or relu, as a layer."""
    if type(operation) is keras.layers.ReLU:
        return operation.max_value is None and operation.threshold == 0
    return type(operation) is keras.layers.Activation and operation.activation in _HOMOGENEOUS


def _has_channels_last(operation):
    return getattr(operation, "data_format", "channels_last") == "channels_last"


def is_depthwise(layer: keras.Layer) -> bool:
    """Whether every channel of a layer has a kernel of its own."""
    return isinstance(layer, keras.layers.DepthwiseConv2D)
