"""Which part of a network trains, and what does its batch norm do meanwhile?

A layer is part of a network by what it is: a block by its class, and any other by its name beside
those of the blocks. So both forms of a network are understood, and those of keras.applications.
"""

import math
from collections.abc import Iterator

import keras
import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.layers import (
    BatchNorm,
    check_batch_norm_mode,
    flatten,
    holders,
    is_new,
    start_at_zero,
)
from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.layers.walking import check_model
from effnet_tf.messages import log
from effnet_tf.variants import stages_of


def stages(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Returns {stage: its layers} of a model, in order, those deep inside it included.

    The stages are "stem", "stage_1" to "stage_7" (EdgeTPU: 6), "head" (the last
    convolution and its batch norm) and, where there is one, "classifier". A model without
    an EfficientNet has none. Of several networks the layers of a stage stand together.

    Raises:
        InputError: a block is of no stage, by its name, and does not stand on a network.
    """
    layers = list(flatten(model))
    names = stages_of(map(_name, layers))
    found = {}
    for layer in layers:
        stage = names.get(_name(layer))
        if stage is not None:
            found.setdefault(stage, []).append(layer)
    if not any(stage.startswith("stage_") for stage in found):
        found = {}  # other people's networks have a stem, too
    network = {id(layer) for stage in found.values() for layer in stage}
    _refuse_unknown_blocks(model, layers, network)
    order = ["stem", *sorted(stage for stage in found if stage.startswith("stage_"))]
    return {stage: found[stage] for stage in (*order, "head", "classifier") if stage in found}


def _name(layer):
    """What a layer is called; of a block, a layer inside it, as in a path."""
    if isinstance(layer, ConvolutionalBlock):
        return f"{layer.name}/project_conv"
    return layer.name


def _refuse_unknown_blocks(model, layers, network):
    for layer in layers:
        if isinstance(layer, ConvolutionalBlock) and id(layer) not in network:
            if not _stands_on(layer, model, network):
                raise InputError(
                    f"The stage of block '{layer.name}' of model '{model.name}' cannot be told "
                    "from its name: give it the name of a block, such as 'block2a', with the "
                    "same beginning and end as the other layers of its network have."
                )


def _stands_on(block, model, network):
    """Whether a block is the user's own: fed by a network and not feeding it."""
    parts = network | {id(holder) for holder in holders(model) if _holds(holder, network)}
    before = any(id(layer) in parts for layer in _before(block))
    return before and not any(id(layer) in parts for layer in _after(block))


def _holds(holder, network):
    return any(id(layer) in network for layer in flatten(holder))


def _before(layer) -> Iterator[keras.Operation]:
    """Yields what a layer of a graph is computed from."""
    seen, waiting = set(), [layer]
    while waiting:
        for node in waiting.pop()._inbound_nodes:
            for parent in node.parent_nodes:
                if id(parent.operation) not in seen:
                    seen.add(id(parent.operation))
                    waiting.append(parent.operation)
                    yield parent.operation


def _after(layer) -> Iterator[keras.Operation]:
    """Yields what is computed from a layer of a graph."""
    seen, waiting = set(), [layer]
    while waiting:
        for node in waiting.pop()._outbound_nodes:
            if id(node.operation) not in seen:
                seen.add(id(node.operation))
                waiting.append(node.operation)
                yield node.operation


def set_trainable(model: keras.Model, from_stage: str = "stem", batch_norm: str = "frozen") -> None:
    """Freezes the layers before a stage, and sets what batch norm does in the others.

    Frozen layers keep their weights, and their batch norm is in inference mode, also in
    training. Your own layers on top are left as they are. Say it before `model.compile`,
    or compile again: the optimiser knows only what trained then. The choice is saved in
    `.keras` files; of a subclassed model only as far as its `get_config` holds the network,
    and never in files of weights: say it again after loading these.
    Where nothing but the classifier trains, one that is still new starts at zero, and it is
    printed: what is frozen has been trained, and `layers/classifiers.py` says why.

    Args:
        model: an EfficientNet of this package or of keras.applications, or a `keras.Model`
            with one or several inside: in its own graph, nested, in a wrapper such as
            `TimeDistributed`, or in layers of yours. All of them are set.
        from_stage: the first stage that trains: "stem" for all, "stage_1" to "stage_7",
            "head", or "classifier" for nothing but the classifier (or your own).
        batch_norm: of the stages that train. "frozen": moving statistics as loaded, gamma
            and beta do not train (small data). "inference": moving statistics as loaded,
            gamma and beta train; only in the form of `model_fn`, Keras' own batch norm
            cannot do it. "trainable": statistics of the batch, as in training from scratch
            (batches of some hundred images).

    Raises:
        InputError: no such stage or mode, no EfficientNet in the model, a block whose stage
            is unknown, or a model that is not built yet. Nothing is changed then.
    """
    check_model(model)
    if not model.built:
        raise InputError(
            f"Model '{model.name}' is not built yet, so its layers are not known: call it once "
            "on a batch of images before set_trainable."
        )
    found = stages(model)
    if not found:
        raise InputError(
            f"Model '{model.name}' contains no EfficientNet built by effnet_tf or "
            "keras.applications."
        )
    names = list(dict.fromkeys((*found, "classifier")))
    _check_stage(model, from_stage, names)
    check_batch_norm_mode(batch_norm)
    training = {stage for stage in names if names.index(stage) >= names.index(from_stage)}
    if batch_norm == "inference":
        _refuse_stock_batch_norm(found, training)
    _thaw(model, {id(layer) for layers in found.values() for layer in layers})
    for stage, layers in found.items():
        for layer in layers:
            _set_layer(layer, stage in training, batch_norm)
    model.train_function = None  # what Keras traced trains the old part
    if from_stage == "classifier":
        _start_new_classifiers(found.get("classifier", ()))
    _report(model, from_stage, batch_norm)


def _start_new_classifiers(classifiers):
    for layer in classifiers:
        if is_new(layer) and np.any(layer.kernel.numpy()):
            start_at_zero(layer)
            log.info(f"Layer '{layer.name}' is new: it starts at zero.")


def _report(model, from_stage, batch_norm):
    training = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    log.info(
        f"{training:,} of {model.count_params():,} parameters train, from {from_stage} on; "
        f"batch norm: {batch_norm}"
    )


def _check_stage(model, from_stage, names):
    if from_stage not in names:
        raise InputError(
            f"There is no stage '{from_stage}' in model '{model.name}'; it has {', '.join(names)}."
        )


def _refuse_stock_batch_norm(found, training):
    for stage in training & set(found):
        for layer in found[stage]:
            if _is_stock_batch_norm(layer):
                raise InputError(
                    f"batch_norm is 'inference', and layer '{layer.name}' is Keras' own batch "
                    "norm, which cannot train gamma and beta on fixed statistics: build the "
                    "network by effnet_tf.model_fn, or pass 'frozen' or 'trainable'."
                )


def _is_stock_batch_norm(layer):
    is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
    return is_batch_norm and not isinstance(layer, BatchNorm)


def _set_layer(layer, trains, batch_norm):
    # Setters are called by hand: Keras skips them where the layer has the value already, though
    # what is inside it may have another.
    if isinstance(layer, BatchNorm):
        BatchNorm.mode.fset(layer, batch_norm)
    elif isinstance(layer, ConvolutionalBlock):
        type(layer).batch_norm.fset(layer, batch_norm)
    elif _is_stock_batch_norm(layer):
        trains = trains and batch_norm == "trainable"
    type(layer).trainable.fset(layer, trains)


def _thaw(model, network):
    """Lets parts of models and layers that were frozen as a whole train again."""
    for holder in holders(model):
        if not holder.trainable and _holds(holder, network):
            # Not by the setter, which would thaw everything inside.
            holder._trainable = True
