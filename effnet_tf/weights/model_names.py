"""What is each variable of a model called, and is there one network in it?"""

import math
from collections.abc import Iterator, Mapping

import keras

from effnet_tf import variants
from effnet_tf.errors import InputError
from effnet_tf.layers import flatten
from effnet_tf.weights import contents, keras_files, names, pixels


def canonical(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns {canonical name: variable} of a model, in its order.

    The network may be anywhere in the model, and renamed, see `variants.places_of`. What is
    not part of it keeps its path. Pixel constants are no part of it, see `pixels.py`.

    Raises:
        InputError: the model holds several networks.
    """
    paths = paths_of(model)
    split = keras_files.split(list(paths.values()))
    called = names.canonical(split)
    variables: dict[str, keras.Variable] = {}
    for weight in model.weights:
        path = paths.get(id(weight), "")
        name = called.get(path, "")
        if name in variables and split[path] != (None, path):
            raise InputError(
                f"Model '{model.name}' holds several networks: '{path}' and another variable are "
                f"the same one of an EfficientNet. {_way_out(model)}"
            )
        while name in variables:  # layers of the user's in two parts of the model
            name += "'"
        if path:
            variables[name] = weight
    return variables


def target(model: keras.Model, variables: Mapping[str, keras.Variable]) -> contents.Target:
    """Returns what readers are told of a model.

    Args:
        model: the model.
        variables: the result of `canonical`.
    """
    paths = paths_of(model)
    split = keras_files.split([paths[id(variable)] for variable in variables.values()])
    numbers: dict[tuple[int, int], int] = {}
    for name, (block, _) in zip(variables, split.values()):
        number = names.block_number(name)
        if isinstance(block, tuple) and number is not None:
            numbers[block] = number
    others = optional(model, variables)
    counted = [name for name in variables if name not in others]
    return contents.Target(
        layers=list(dict.fromkeys(name.rpartition("/")[0] for name in counted)),
        numbers=numbers,
        parameters=sum(math.prod(variable.shape) for variable in variables.values()),
        network=_network(paths),
    )


def paths_of(model: keras.Model) -> dict[int, str]:
    """Returns {id of a variable: its path}, with the names that layers have now.

    Keras keeps the paths of variables when their layer is renamed. The network's pixel
    constants are left out.
    """
    paths = {id(weight): weight.path for weight in model.weights}
    for layer in flatten(model):
        for weight, chain in _own_weights(layer, (layer.name,)):
            parts = weight.path.split("/")
            if len(parts) > len(chain):
                parts[-1 - len(chain) : -1] = chain
            paths[id(weight)] = "/".join(parts)
    for layer in pixels.layers_of(model):
        for weight in layer.weights:
            del paths[id(weight)]
    return paths


def optional(model: keras.Model, variables: Mapping[str, keras.Variable]) -> set[str]:
    """Returns which names are of Keras' Normalization layers: a file need not have these.

    The network's own are left out already; others scale something else, such as a table.

    Args:
        model: the model.
        variables: the result of `canonical`.
    """
    statistics = {
        id(weight)
        for layer in flatten(model)
        if isinstance(layer, keras.layers.Normalization)
        for weight in layer.weights
    }
    return {name for name, variable in variables.items() if id(variable) in statistics}


def finalize(model: keras.Model) -> None:
    """Makes Keras' Normalization layers compute with the weights that they were given.

    They keep copies, and so does what was traced.
    """
    for layer in flatten(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    model.train_function = model.test_function = model.predict_function = None


def _own_weights(layer, chain) -> Iterator[tuple[keras.Variable, tuple[str, ...]]]:
    """Yields (variable, names of the layers that it is in), those of a block's layers too."""
    inside = layer._flatten_layers(include_self=False, recursive=False)
    theirs = {id(weight) for each in inside for weight in each.weights}
    for weight in layer.weights:
        if id(weight) not in theirs:
            yield weight, chain
    for each in inside:
        yield from _own_weights(each, (*chain, each.name))


# --- several networks ---------------------------------------------------------------------------


def _places(paths):
    """Returns where the layers of networks are, see `variants.places_of`."""
    return variants.places_of(path.rpartition("/")[0] for path in paths.values())


def _network(paths):
    """Returns what stands before and behind the names of a network."""
    return next((place.network for place in _places(paths).values()), ("", ""))


def _way_out(model):
    """Says how weights get into one of several networks."""
    for layer in model.layers:
        if isinstance(layer, keras.Model) and _places(paths_of(layer)):
            return (
                "Load weights into each on its own: "
                f"load_weights(model.get_layer('{layer.name}'), path)."
            )
    last = _last_layer(model)
    if last is None:
        return "Load weights into each on its own, before they are put into one model."
    (source,) = keras.utils.get_source_inputs(last.output)
    number = [tensor is source for tensor in model.inputs].index(True)
    return (
        "Load weights into each before they are joined, or into the part of the model that is one "
        f"of them: load_weights(keras.Model(model.inputs[{number}], "
        f"model.get_layer('{last.name}').output), path)."
    )


def _last_layer(model):
    """Returns the layer of the model's own graph that one of its networks ends with."""
    places = _places(paths_of(model))
    for layer in reversed(model.layers):
        place = places.get(layer.name)
        if place is not None and place.layer in ("predictions", "top_bn"):
            if len(keras.utils.get_source_inputs(layer.output)) == 1:
                return layer
    return None
