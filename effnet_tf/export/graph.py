"""Which layers does a Keras model consist of, and what does each one read?

Keras keeps that in private attributes.
"""

import collections

import keras

from effnet_tf.errors import InputError


def functional(model: keras.Model) -> keras.Model:
    """Returns a model that has a graph of layers; a Sequential one has it inside.

    Raises:
        InputError: a subclassed model, which has none.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs, model.outputs[0], name=model.name)
    if not has_graph(model):
        raise InputError(
            f"The model '{model.name}' is a subclass of keras.Model without a graph "
            "of layers: build it as a functional or sequential model."
        )
    return model


def has_graph(layer: keras.Operation) -> bool:
    """Whether a layer is a model that computes what its graph of layers says."""
    of_keras = (keras.Sequential.call, keras.src.models.Functional.call)
    return isinstance(layer, keras.Model) and type(layer).call in of_keras


def source_of(tensor: keras.KerasTensor) -> tuple[keras.Operation, list[keras.KerasTensor]]:
    """Returns the Keras operation that a tensor comes from, and the tensors that this reads."""
    operation, node, _ = tensor._keras_history
    return operation, operation._inbound_nodes[node].input_tensors


def nodes(model: keras.Model) -> list:
    """Returns the calls of layers and operations of a functional model, inputs first."""
    found = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        found += [node for node in model._nodes_by_depth[depth] if not node.is_input]
    return found


def shared(calls: list) -> set[keras.Operation]:
    """Returns the operations among `nodes` with weights that others, or other calls, use too."""
    uses = collections.Counter(id(weight) for node in calls for weight in _weights(node))

    def is_shared(node):
        return any(uses[id(weight)] > 1 for weight in _weights(node))

    return {node.operation for node in calls if is_shared(node)}


def _weights(node):
    return getattr(node.operation, "weights", ())
