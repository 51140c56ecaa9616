"""Where is the last map of a network, which its classifier is about to pool, and its scores?

Of our networks the map is the activation of the head; of others the last (N, H, W, C) before the
global pooling or the flattening, inside of a model that is a layer of theirs, too.
"""

import keras

from effnet_tf.errors import InputError
from effnet_tf.export import graph, runtimes
from effnet_tf.inference.subjects import Subject

_POOLING = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
_TO_PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)


def split(subject: Subject) -> keras.Model:
    """Returns a network's model, with its last map beside its scores.

    Args:
        subject: with a Keras model.

    Returns:
        A model of the same layers and weights, from the same images to
        {"map": (N, h, w, F), "scores": (N, classes)}: logits where a softmax or sigmoid follows
        them, else what the network gives.

    Raises:
        InputError: it has no graph of layers, or no map in it.
    """
    model = _flat(graph.functional(subject.model))
    output = runtimes.best_of(model.output)
    found = _last_map(output)
    if found is None:
        raise InputError(f"{subject.name} has no map (N, H, W, C) before its answer.")
    return keras.Model(model.inputs[0], {"map": found, "scores": _scores(output)})


# --- models inside of models --------------------------------------------------------------------


def _flat(model):
    """Returns a functional model without models inside of it: their layers stand in its graph."""
    if not any(graph.has_graph(node.operation) for node in graph.nodes(model)):
        return model
    images = keras.Input(batch_shape=model.inputs[0].shape, dtype=model.inputs[0].dtype)
    known = _called(model, [images])
    outputs = keras.tree.map_structure(lambda tensor: known[id(tensor)], model.output)
    return keras.Model(images, outputs)


def _called(model, tensors):
    """Calls the layers of a functional model anew; returns {id of an old tensor: the new one}."""
    known = dict(zip(map(id, model.inputs), tensors))
    for node in graph.nodes(model):
        arguments, options = node.arguments.fill_in(known)
        if graph.has_graph(node.operation):
            outputs = _inside(node.operation, keras.tree.flatten(arguments))
        else:
            outputs = keras.tree.flatten(node.operation(*arguments, **options))
        known.update(zip(map(id, node.outputs), outputs))
    return known


def _inside(model, tensors):
    inner = graph.functional(model)
    known = _called(inner, tensors)
    return [known[id(tensor)] for tensor in inner.outputs]


# --- places in a graph --------------------------------------------------------------------------


def _last_map(tensor):
    """Returns the map that a tensor is computed from, or None.

    A map of one pixel may be what global pooling has left, as in MobileNets: then it is the map
    before that. Or the image was small: then it is the map.
    """
    single = None
    while True:
        if len(tensor.shape) == 4 and tensor.shape[1:3] != (1, 1):
            return tensor if single is None else single
        operation, taken = graph.source_of(tensor)
        if isinstance(operation, _POOLING):
            return taken[0]
        if len(tensor.shape) == 4 and single is None:
            single = tensor
        if len(taken) != 1:
            break
        tensor = taken[0]
    if single is not None:
        return single
    for each in taken:  # of several branches the first that has one
        found = _last_map(each)
        if found is not None:
            return found
    return None


def _scores(tensor):
    """Returns the logits that probabilities are computed from; another tensor itself."""
    operation, taken = graph.source_of(tensor)
    if isinstance(operation, keras.layers.Softmax):
        return taken[0]
    activation = getattr(operation, "activation", None)
    if isinstance(operation, keras.layers.Activation):
        if activation is keras.activations.linear:
            return _scores(taken[0])
        if activation in _TO_PROBABILITIES:
            return taken[0]
    if isinstance(operation, keras.layers.Dense) and activation in _TO_PROBABILITIES:
        config = {**operation.get_config(), "activation": None, "name": f"{operation.name}_logits"}
        linear = type(operation).from_config(config)
        scores = linear(taken[0])
        linear.set_weights(operation.get_weights())
        return scores
    return tensor
