"""What does a built model cost, whatever is in it?

Its graph is traced and its products are counted: a network in either form, with heads of the
user's, or a model of somebody else's.
"""

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import keras
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.layers.cond_conv import MIXING
from effnet_tf.layers.routing import WEIGHING
from effnet_tf.layers.walking import check_model
from effnet_tf.variants import Cost
from effnet_tf.weights import pixels

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")


def cost_of_model(model: keras.Model, *, resolution: int | None = None) -> Cost:
    """Counts what a built model costs for one image, from the graph that it computes.

    Args:
        model: any `keras.Model` that takes images, in either form of this package or of others.
        resolution: side of the square images in pixels, for a model that takes any; by default
            the size that the model was built for.

    Returns:
        A `Cost`. Multiply-adds are those of convolutions and matrix products (not of an einsum, as
        attention has, nor of what runs under a condition); pixel constants are no parameters, as
        in `effnet_tf.cost("b0")`; frozen weights are not trainable.

    Raises:
        InputError: no model, one that is not built, of unknown or another size, or with a loop.
    """
    check_model(model)
    specs = [_spec(tensor, resolution, model.name) for tensor in _inputs(model)]
    structure = keras.tree.pack_sequence_as(model.input, specs)
    traced = tf.function(lambda images: model(images, training=False), autograph=False)
    try:
        graph = traced.get_concrete_function(structure).graph.as_graph_def(add_shapes=True)
    except ValueError as error:
        raise InputError(
            f"Model '{model.name}' cannot take images of {resolution} pixels: build it for that "
            "size, or leave resolution out."
        ) from error
    counter = _Counter(graph, model.name)
    multiply_adds, elements = counter.count(graph.node)
    constants = {id(weight) for layer in pixels.layers_of(model) for weight in layer.weights}
    return Cost(
        params=_size(weight for weight in model.weights if id(weight) not in constants),
        trainable_params=_size(model.trainable_weights),
        multiply_adds=multiply_adds,
        activation_bytes=4 * elements,
        routing_multiply_adds=counter.apart[WEIGHING],
        mixing_multiply_adds=counter.apart[MIXING],
    )


def _inputs(model):
    """Returns the symbolic inputs of a functional model, flat."""
    try:
        return keras.tree.flatten(model.input)
    except (AttributeError, ValueError) as error:
        raise InputError(
            f"Model '{model.name}' is not built yet, or is no functional model: what it costs "
            "depends on images whose size it does not say. Wrap it: keras.Model(inputs, "
            "model(inputs)) with inputs = keras.Input((224, 224, 3))."
        ) from error


def _spec(tensor, resolution, name):
    """Returns what one image, or one row of another input, looks like."""
    batch, *sides = tensor.shape
    if len(sides) == 3 and resolution is not None:
        sides[:2] = resolution, resolution
    if None in sides:
        raise InputError(
            f"Model '{name}' takes images of any size: pass resolution, such as "
            "effnet_tf.cost(model, resolution=224)."
        )
    return tf.TensorSpec((1, *sides), tensor.dtype)


def _size(weights):
    return sum(math.prod(weight.shape) for weight in weights)


class _Counter:
    """Counts the products of a graph and of the functions that it calls."""

    def __init__(self, graph: tf.compat.v1.GraphDef, name: str):
        self._functions = {each.signature.name: each for each in graph.library.function}
        self._name = name
        self.apart = {WEIGHING: 0, MIXING: 0}  # multiply-adds in these scopes

    def count(self, nodes: Sequence, arguments: Mapping = MappingProxyType({})) -> tuple[int, int]:
        """Counts the products of a graph, or of a function that is called in one.

        Args:
            nodes: of the graph.
            arguments: shapes by name of what the function is given.

        Returns:
            (multiply-adds, elements that the products give).
        """
        shapes = {**arguments, **{node.name: _shape(node) for node in nodes}}
        multiply_adds = elements = 0
        for node in nodes:
            inputs = [shapes.get(name.split(":")[0], ()) for name in node.input]
            found = self._count_node(node, inputs, shapes[node.name])
            multiply_adds, elements = multiply_adds + found[0], elements + found[1]
        return multiply_adds, elements

    def _count_node(self, node, inputs, output):
        if node.op in _LOOPS:
            raise InputError(
                f"Model '{self._name}' holds a loop ({node.name}), and its graph does not tell how "
                "often it runs: count the model inside the loop."
            )
        if node.op in _CALLS:
            called = self._functions[node.attr["f"].func.name]
            names = [argument.name for argument in called.signature.input_arg]
            return self.count(called.node_def, dict(zip(names, inputs)))
        if node.op in _PRODUCTS:
            if any(size < 0 for shape in (*inputs, output) for size in shape):
                raise InputError(
                    f"Model '{self._name}' takes a size from its pixels ({node.name}), and what "
                    "depends on that cannot be counted: count the model before it."
                )
            return self._sorted(node, _PRODUCTS[node.op](node, inputs, output), math.prod(output))
        return 0, 0

    def _sorted(self, node, multiply_adds, elements):
        """Returns what a product counts; of those for experts the multiply-adds stay apart."""
        for scope in self.apart:
            if re.search(rf"(^|/){scope}(_\d+)?/", node.name):
                self.apart[scope] += multiply_adds
                return 0, elements if scope == WEIGHING else 0
        return multiply_adds, elements


def _shape(node):
    """Returns the shape of a node's first output; () if the graph does not say it."""
    known = node.attr["_output_shapes"].list.shape
    if not known or known[0].unknown_rank:
        return ()
    return tuple(dimension.size for dimension in known[0].dim)


# --- multiply-adds of one operation: (node, shapes of its inputs, shape of its output) -----------


def _of_convolution(node, inputs, output):
    """Each element of the output takes one filter; the kernel is (height, width, in, out)."""
    return math.prod(output) * math.prod(inputs[1][:-1])


def _of_depthwise(node, inputs, output):
    """Each element of the output takes one channel's taps; the kernel is (height, width, ...)."""
    return math.prod(output) * math.prod(inputs[1][:2])


def _of_transposed(node, inputs, output):
    """Each element of the map takes a kernel of (height, width, out, in)."""
    _, kernel, image = inputs
    return math.prod(image) * math.prod(kernel[:-1])


def _of_matrix(node, inputs, output):
    """Each element of the output is a sum over the last axis of the first matrix."""
    transposed = node.attr["transpose_a"].b or node.attr["adj_x"].b
    return math.prod(output) * inputs[0][-2 if transposed else -1]


_PRODUCTS = {
    "Conv2D": _of_convolution,
    "Conv3D": _of_convolution,
    "DepthwiseConv2dNative": _of_depthwise,
    "Conv2DBackpropInput": _of_transposed,
    "Conv3DBackpropInputV2": _of_transposed,
    "MatMul": _of_matrix,
    "BatchMatMulV2": _of_matrix,
}
