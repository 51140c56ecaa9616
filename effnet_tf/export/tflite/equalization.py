"""Which channels can lend scale to the next layers, so that int8 loses less?

An int8 activation has one step for all its channels, a kernel has one per output channel.
Where a convolution's result reaches the next ones through linear operations alone, as that
of an MBConv block does, channel c can be divided by any s_c > 0 before and multiplied by it
after: the same function, with channels of like range (cross-layer equalisation: Nagel et
al., arXiv 1906.04721). With relu the hidden maps of a block can do it, too; not with swish
or relu6. `correct_biases` takes out what rounding the weights adds to a channel's mean
(ibid., section 4.2). Both work on the models of `fold`, in place.
"""

import collections
import dataclasses

import keras
import numpy as np

from effnet_tf.export.tflite import flatbuffer

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
_BATCH = 4  # a whole network's maps are in memory at once
_RANGES = (1e-30, 1e30)  # of a channel that lives


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
        names = [
            ", ".join(layer.name for layer in layers) for layers in (self.producers, self.consumers)
        ]
        return " -> ".join(names)

    def scale(self, factors):
        """Divides the producers' channels by `factors`, (C,) > 0; multiplies the consumers'."""
        factors = np.asarray(factors, "float64")
        for layer in self.producers:
            kernel, *bias = layer.get_weights()
            flat = kernel.reshape(*kernel.shape[:2], -1) if _is_depthwise(layer) else kernel
            scaled = (flat / factors).reshape(kernel.shape)  # a depthwise one is (k, k, C, M)
            layer.set_weights(
                [
                    scaled.astype("float32"),
                    *((values / factors).astype("float32") for values in bias),
                ]
            )
        for layer in self.consumers:
            kernel, *bias = layer.get_weights()
            layer.set_weights([(kernel * factors[:, np.newaxis]).astype("float32"), *bias])


def links(model):
    """Returns the `Link`s of a functional `keras.Model`, from input to output.

    Whatever it does not know (another activation, a product, weights that are used twice, an
    output of the model) keeps the scale of the tensors that it touches.
    """
    nodes = _nodes(model)
    shared = _shared(nodes)
    spaces = _Spaces()
    for node in nodes:
        spaces.visit(node, node.operation not in shared)
    spaces.close(*model.inputs, *model.outputs)
    return spaces.links()


def equalize(model, images, progress=None):
    """Gives the channels of each link of a model like ranges; the function stays, to rounding.

    A channel's range is the geometric mean of its largest and its root mean square value: of
    the largest alone, 100 images know too little, and later ones would be clipped; and before
    relu as well as after it, where a channel may hardly have lived on these images. Divided
    by it, channels come out the same however they were scaled before. The consumers' weights
    have no say: on trained networks their rounding costs a hundredth of the activations'.

    Args:
        model: a functional `keras.Model` of one input, of `fold`; its weights are changed.
        images: (N, H, W, C) in [0, 255] to measure ranges on, some hundred.
        progress: None, or a function of (images done, of how many).

    Returns:
        A list of (`Link`, factors): the channels, (C,), were divided by these.
    """
    found = links(model)
    scaled = [
        (link, _factors(link, ranges))
        for link, ranges in zip(found, _ranges(model, found, images, progress))
    ]
    for link, factors in scaled:
        link.scale(factors)
    return scaled


def correct_biases(model, images, progress=None):
    """Subtracts from biases what int8 weights would add to the mean of each channel.

    Args:
        model: a functional `keras.Model` of one input, of `fold`; its biases are changed, so
            that it is right with int8 weights and slightly wrong without: call it last.
        images: (N, H, W, C) in [0, 255] to take means over.
        progress: None, or a function of (images done, of how many).

    Returns:
        A dict from the name of each corrected layer to what was subtracted, (C,).
    """
    nodes = _nodes(model)
    shared = _shared(nodes)
    nodes = [
        node
        for node in nodes
        if _is_kernel(node.operation) and node.operation.use_bias and node.operation not in shared
    ]
    corrections = {}
    means = _means(model, [node.input_tensors[0] for node in nodes], images, progress)
    for node, mean in zip(nodes, means):
        layer = node.operation
        kernel, bias = layer.get_weights()
        error = _linear(layer, rounded(kernel, _is_depthwise(layer)) - kernel, mean)
        corrections[layer.name] = error.mean(axis=tuple(range(error.ndim - 1)))
        layer.set_weights([kernel, bias - corrections[layer.name]])
    return corrections


def rounded(kernel, depthwise=False):
    """Returns the kernel as the TFLite converter rounds it: int8, symmetric, per channel.

    Args:
        kernel: (..., C_in, C_out), or (k, k, C, M) if `depthwise`.
        depthwise: whether its channels are C x M.
    """
    channels = np.prod(kernel.shape[-2:] if depthwise else kernel.shape[-1:])
    scale, values = flatbuffer.quantize_weights(kernel.reshape(-1, channels), axis=1)
    return (values * scale).astype("float32").reshape(kernel.shape)


# --- the graph -----------------------------------------------------------------------------


def _nodes(model):
    """Returns the calls of layers and operations that a model consists of."""
    depths = model._nodes_by_depth
    return [
        node
        for depth in sorted(depths, reverse=True)
        for node in depths[depth]
        if not node.is_input
    ]


def _shared(nodes):
    """Returns the operations that have weights which others, or other calls, use too."""
    uses = collections.Counter(
        id(weight) for node in nodes for weight in getattr(node.operation, "weights", ())
    )
    return {
        node.operation
        for node in nodes
        if any(uses[id(weight)] > 1 for weight in getattr(node.operation, "weights", ()))
    }


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
        if _is_kernel(operation) and is_alone:
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

    def links(self):
        """Returns the `Link`s."""
        groups = collections.defaultdict(list)
        for key in self._tensors:
            groups[self._root(key)].append(key)
        found = [
            Link(
                tuple(self._producers[key] for key in keys if key in self._producers),
                tuple(layer for key in keys for layer in self._consumers.get(key, ())),
                tuple(self._tensors[key] for key in keys),
            )
            for keys in groups.values()
            if not self._closed.intersection(keys)
        ]
        return [link for link in found if link.producers and link.consumers]


def _is_kernel(operation):
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


def _is_depthwise(layer):
    return isinstance(layer, keras.layers.DepthwiseConv2D)


# --- the numbers ---------------------------------------------------------------------------


def _observe(model, tensors, images, progress):
    """Yields (numbers of tensor, its value for a batch), batch after batch."""
    if not tensors:
        return
    watched = keras.Model(model.input, list(tensors))
    for begin in range(0, len(images), _BATCH):
        batch = np.asarray(images[begin : begin + _BATCH], "float32")
        values = keras.tree.flatten(watched(batch, training=False))  # of one output: no list
        yield from enumerate(map(np.asarray, values))
        if progress:
            progress(begin + len(batch), len(images))


def _ranges(model, found, images, progress):
    """Returns the range of every channel of every link: arrays (C,)."""
    tensors = [(number, tensor) for number, link in enumerate(found) for tensor in link.tensors]
    largest, squares = ([np.zeros(link.tensors[0].shape[-1]) for link in found] for _ in range(2))
    for index, values in _observe(model, [tensor for _, tensor in tensors], images, progress):
        link = tensors[index][0]
        values = values.reshape(len(values), -1, values.shape[-1])
        largest[link] = np.maximum(largest[link], np.abs(values).max(axis=(0, 1)))
        squares[link] += np.square(values, dtype="float64").mean(axis=1).sum(axis=0)
    return [
        np.sqrt(top * np.sqrt(total / (len(images) * len(link.tensors))))
        for link, top, total in zip(found, largest, squares)
    ]


def _factors(link, ranges):
    """Returns what to divide a link's channels by: (C,), finite and > 0.

    A channel that is 0 on all images could have any factor. It gets the largest with which
    its weights stay below the others', or 1: they must not make the int8 step coarser.
    """
    alive = (ranges > _RANGES[0]) & (ranges < _RANGES[1])
    share = np.zeros_like(ranges)
    for layer in link.consumers:
        if not _is_depthwise(layer):  # of which every channel has its own step
            kernel = np.abs(layer.get_weights()[0])
            kernel = kernel.reshape(-1, *kernel.shape[-2:]).max(axis=0)  # (C, F)
            largest = (kernel[alive] * ranges[alive, np.newaxis]).max(axis=0, initial=0)
            largest = np.where(largest > 0, largest, np.inf)
            share = np.maximum(share, (kernel / largest).max(axis=1))
    return np.where(alive, ranges, 1 / np.where(share > 0, share, 1))


def _means(model, tensors, images, progress):
    """Returns the mean over the images of each tensor, with a batch of 1."""
    sums = [0] * len(tensors)
    for index, values in _observe(model, tensors, images, progress):
        sums[index] = sums[index] + values.sum(axis=0, keepdims=True, dtype="float64")
    return [(total / len(images)).astype("float32") for total in sums]


def _linear(layer, kernel, values):
    """Returns what the layer would give with this kernel, no bias and no activation."""
    config = {**layer.get_config(), "use_bias": False, "activation": None}
    copy = type(layer).from_config(config)
    copy.build(values.shape)
    copy.set_weights([kernel])
    return np.asarray(copy(values))
