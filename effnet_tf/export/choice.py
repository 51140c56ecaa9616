"""Which kind of TFLite file suits a network? It is asked what it is, not what it is called."""

import keras

from effnet_tf import layers
from effnet_tf.export import graph, mixing
from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.messages import log

_FOR_INTEGERS = ("linear", "relu", "relu6", "softmax")  # names of activations
_FAMILIAR = {"silu": "swish"}


def quantize(model: keras.Model, calibrated: bool) -> str:
    """Returns the kind of file that is written when nobody asked for one; says why.

    Args:
        model: a functional or sequential `keras.Model`.
        calibrated: whether there are images to calibrate on.
    """
    found = what_integers_harm(model)
    if mixing.has_experts(model):
        kind, reason = "float16", "kernels that are mixed for each image are no constants of 8 bits"
    elif found:
        kind, reason = "weights8", f"{' and '.join(found)} lose less in float arithmetic"
        if len(found) == 1:
            reason = f"{found[0]} loses less in float arithmetic"
    elif calibrated:
        kind, reason = "int8", "it has neither swish nor squeeze-and-excite: made for integers"
    else:
        kind, reason = "weights8", "int8 would suit it, but needs calibration images"
    log.info(f"quantize {kind}, the default for this network ({reason}); none is float32")
    return kind


def what_integers_harm(model: keras.Model) -> list[str]:
    """Returns what in a network loses by 8-bit activations, such as ["swish"]."""
    found, ends = {}, _ends(model)
    for operation in _operations(model):
        name = _activation(operation)
        if name not in _FOR_INTEGERS and not (name == "sigmoid" and operation in ends):
            if name != "sigmoid":  # of squeeze-and-excite, then
                found[_FAMILIAR.get(name, name)] = True
        if _is_gate(operation):
            found["squeeze-and-excite"] = True
    return list(found)


def _operations(model):
    """Yields the operations of a model, and those of the models and layers inside it."""
    for operation in graph.functional(model).operations:
        yield from _with_inner(operation)


def _with_inner(operation):
    if graph.has_graph(operation):
        yield from _operations(operation)
        return
    yield operation
    if isinstance(operation, keras.Layer):
        for part in layers.sublayers(operation):
            yield from _with_inner(part)


def _ends(model):
    """Returns the operations that give the outputs of a model, or of one inside it."""
    found = set()
    for output in graph.functional(model).outputs:
        operation, _ = graph.source_of(output)
        if graph.has_graph(operation):
            found |= _ends(operation)
        else:
            found.add(operation)
    return found


def _activation(operation):
    """Returns the name of an operation's activation, "linear" if it has none."""
    if type(operation).__name__ in ("Silu", "Gelu", "Sigmoid", "Tanh"):  # of keras.ops
        return type(operation).__name__.lower()
    activation = getattr(operation, "activation", None)
    return getattr(keras.activations.get(activation), "__name__", "linear")


def _is_gate(operation):
    """Whether it is squeeze-and-excite, or multiplies what the network has computed twice."""
    if isinstance(operation, ConvolutionalBlock):
        return operation.se is not None
    if isinstance(operation, layers.SqueezeExcite):
        return True
    nodes = operation._inbound_nodes
    return (
        type(operation).__name__ == "Multiply"
        and len(nodes) > 0
        and len(nodes[0].input_tensors) > 1
    )
