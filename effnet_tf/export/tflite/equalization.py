"""Which channels can lend scale to the next layers, so that int8 loses less?

An int8 activation has one step for all its channels, a kernel has one per output channel.
Where a convolution's result reaches the next ones through linear operations alone, as that
of an MBConv block does, channel c can be divided by any s_c > 0 before and multiplied by it
after: the same function, with channels of like range (cross-layer equalisation: Nagel et
al., arXiv 1906.04721). With relu the hidden maps of a block can do it, too; not with swish
or relu6. `correct_biases` takes out what rounding the weights adds to a channel's mean
(ibid., section 4.2). Both work on the models of `fold`, in place.
"""

from collections.abc import Callable

import keras
import numpy as np

from effnet_tf.export import graph
from effnet_tf.export.tflite import flatbuffer
from effnet_tf.export.tflite.linking import Link, is_depthwise, is_kernel, links

_BATCH = 4  # a whole network's maps are in memory at once
_RANGES = (1e-30, 1e30)  # of a channel that lives
Progress = Callable[[int, int], None]  # takes (images done, of how many)


def equalize(
    model: keras.Model, images: np.ndarray, progress: Progress | None = None
) -> list[tuple[Link, np.ndarray]]:
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


def correct_biases(
    model: keras.Model, images: np.ndarray, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """Subtracts from biases what int8 weights would add to the mean of each channel.

    Args:
        model: a functional `keras.Model` of one input, of `fold`; its biases are changed, so
            that it is right with int8 weights and slightly wrong without: call it last.
        images: (N, H, W, C) in [0, 255] to take means over.
        progress: None, or a function of (images done, of how many).

    Returns:
        A dict from the name of each corrected layer to what was subtracted, (C,).
    """
    nodes = graph.nodes(model)
    shared = graph.shared(nodes)
    nodes = [
        node
        for node in nodes
        if is_kernel(node.operation) and node.operation.use_bias and node.operation not in shared
    ]
    corrections = {}
    means = _means(model, [node.input_tensors[0] for node in nodes], images, progress)
    for node, mean in zip(nodes, means):
        layer = node.operation
        kernel, bias = layer.get_weights()
        error = _linear(layer, rounded(kernel, is_depthwise(layer)) - kernel, mean)
        corrections[layer.name] = error.mean(axis=tuple(range(error.ndim - 1)))
        layer.set_weights([kernel, bias - corrections[layer.name]])
    return corrections


def rounded(kernel: np.ndarray, depthwise: bool = False) -> np.ndarray:
    """Returns the kernel as the TFLite converter rounds it: int8, symmetric, per channel.

    Args:
        kernel: (..., C_in, C_out), or (k, k, C, M) if `depthwise`.
        depthwise: whether its channels are C x M.
    """
    channels = kernel.shape[-1]
    if depthwise:
        channels *= kernel.shape[-2]
    scale, values = flatbuffer.quantize_weights(kernel.reshape(-1, channels), axis=1)
    return (values * scale).astype("float32").reshape(kernel.shape)


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
    largest = [np.zeros(link.tensors[0].shape[-1]) for link in found]
    squares = [np.zeros_like(each) for each in largest]
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
        if not is_depthwise(layer):  # of which every channel has its own step
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
