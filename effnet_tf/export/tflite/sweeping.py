"""How are all kernels of a network rounded to 8 bits, so that it goes on saying what it said?

One after the other, from the pixels to the scores. Two networks run side by side: the float one,
and the one whose earlier layers are rounded already. Each kernel is rounded for what its taps see
in the second (rounding.py), and its bias takes up what the mean of its outputs has lost against the
first, by this and all earlier layers.
"""

import collections
import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export import graph
from effnet_tf.export.tflite import linking, rounding, seen

MOST_IMAGES, LEAST_IMAGES = 64, 4
MEMORY = 2e9  # bytes, for the maps that are alive at once
_BYTES = 16  # for each number of the largest map: two of 4 bytes in both networks
_BATCH = 16
Progress = Callable[[int, int], None]  # takes (layers done, of how many)


def round_weights(
    model: keras.Model, images: np.ndarray, *, smallest: int = 0, progress: Progress | None = None
) -> int:
    """Rounds the kernels of a model to 8 bits per output channel, and corrects its biases.

    Args:
        model: a functional `keras.Model` of one input, of `fold`; its weights are changed.
        images: (N, H, W, C); all are in memory with the maps made of them, see `count`.
        smallest: kernels of fewer weights stay as they are.
        progress: None, or a function of (layers done, of how many).

    Returns:
        How many kernels were rounded.

    Raises:
        InputError: a layer gives numbers that are not finite.
    """
    sweep = _Sweep(model, images, smallest)
    for done, node in enumerate(sweep.nodes, 1):
        sweep.visit(node)
        if progress:
            progress(done, len(sweep.nodes))
    return len(sweep.rounded)


def chosen(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns those of the images that are used: evenly spread, as many as `count` says."""
    number = min(count(model), len(images))
    return images[np.linspace(0, len(images) - 1, number).astype(int)]


def count(model: keras.Model) -> int:
    """Returns how many images a model's weights are rounded for: 64, or what memory allows."""
    largest = max(math.prod(node.outputs[0].shape[1:]) for node in graph.nodes(model))
    affordable = int(MEMORY / (_BYTES * largest))
    return min(MOST_IMAGES, max(affordable, LEAST_IMAGES))


class _Sweep:
    """Goes through the calls of a model's layers in the float network and in the rounded one."""

    def __init__(self, model, images, smallest):
        self.nodes = graph.nodes(model)
        self.rounded = {}  # by layer: (weights before, weights now)
        self._smallest = smallest
        self._shared = graph.shared(self.nodes)
        self._uses = collections.Counter(id(x) for node in self.nodes for x in node.input_tensors)
        parts = [images[begin : begin + _BATCH] for begin in range(0, len(images), _BATCH)]
        batches = [tf.cast(part, tf.float32) for part in parts]
        (taken,) = model.inputs
        self._values = {id(taken): (batches, batches)}  # of a tensor: float, rounded

    def visit(self, node):
        """Rounds a layer's kernel if it has one, and computes what it gives."""
        layer = node.operation
        if linking.is_kernel(layer) and layer not in self.rounded:
            if layer.kernel.shape.num_elements() >= self._smallest:
                self._round(layer, *self._values[id(node.input_tensors[0])])
        exact = self._run(node, 0)
        other = exact
        if layer in self.rounded or self._differ(node):
            other = self._run(node, 1)
        for tensor, *values in zip(node.outputs, exact, other):
            self._values[id(tensor)] = values
        self._forget(node)

    def _round(self, layer, exact, other):
        """Rounds the kernel of a layer whose inputs in the two networks are these batches."""
        kernel, *bias = layer.get_weights()
        rows, means = seen.rows_of(layer, kernel), seen.mean(layer, other)
        if not np.isfinite(means).all():
            raise InputError(
                f"On the images that weights are rounded for, '{layer.name}' takes numbers that "
                "are not finite. Look at the weights of the layers before it."
            )
        if layer in self._shared:  # what it sees differs from call to call
            found = rounding.nearest(rows)
        elif bias:
            found = rounding.compensated(rows, seen.covariance(layer, other, means))
            lost = (
                rows @ seen.mean(layer, exact)[:, :, np.newaxis] - found @ means[:, :, np.newaxis]
            )
            bias = [bias[0] + lost.reshape(bias[0].shape).astype("float32")]
        else:  # nothing takes up the mean, which must come out right itself
            found = rounding.compensated(rows, seen.covariance(layer, other, 0 * means))
        now = [seen.kernel_of(layer, found), *bias]
        self.rounded[layer] = layer.get_weights(), now

    def _run(self, node, which):
        """Returns, for each output of a call, its batches in the float (0) or rounded (1) network.

        The layer is left with the weights of that network.
        """
        if node.operation in self.rounded:
            node.operation.set_weights(self.rounded[node.operation][which])
        inputs = {id(x): self._values[id(x)][which] for x in node.input_tensors}
        found = []
        for number in range(len(next(iter(inputs.values())))):
            now = {key: batches[number] for key, batches in inputs.items()}
            given, options = node.arguments.fill_in(now)
            found.append(keras.tree.flatten(node.operation(*given, **options)))
        return list(map(list, zip(*found)))

    def _differ(self, node):
        """Whether a call takes other values in the rounded network."""
        pairs = [self._values[id(x)] for x in node.input_tensors]
        return any(exact is not other for exact, other in pairs)

    def _forget(self, node):
        """Frees what no later call takes."""
        for x in node.input_tensors:
            self._uses[id(x)] -= 1
            if not self._uses[id(x)]:
                del self._values[id(x)]
