"""Which part of a network trains, and what does its batch norm do meanwhile?"""

import math

import keras

from effnet_tf.errors import InputError
from effnet_tf.layers import BatchNorm, FusedMBConv, MBConv, check_batch_norm_mode, flatten
from effnet_tf.messages import log
from effnet_tf.variants import stage_of


def stages(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """Returns {stage: its layers} of a model, in order, the models inside it included.

    The stages are "stem", "stage_1" to "stage_7" (EdgeTPU: 6), "head" (the last
    convolution and its batch norm) and, where there is one, "classifier". A model without
    blocks of this package has none.
    """
    layers = list(flatten(model))
    if not any(isinstance(layer, (MBConv, FusedMBConv)) for layer in layers):
        return {}  # keras.applications' layers have the same names
    found = {}
    for layer in layers:
        stage = stage_of(layer.name)
        if stage is not None:
            found.setdefault(stage, []).append(layer)
    return found


def set_trainable(model: keras.Model, from_stage: str = "stem", batch_norm: str = "frozen") -> None:
    """Freezes the layers before a stage, and sets what batch norm does in the others.

    Frozen layers keep their weights, and their batch norm is in inference mode, also in
    training. Your own layers on top are left as they are. Say it before `model.compile`,
    or compile again: the optimiser knows only what trained then. The choice is saved in
    `.keras` files.

    Args:
        model: an EfficientNet of this package, or a `keras.Model` with one inside.
        from_stage: the first stage that trains: "stem" for all, "stage_1" to "stage_7",
            "head", or "classifier" for nothing but the classifier (or your own).
        batch_norm: of the stages that train. "frozen": moving statistics as loaded, gamma
            and beta do not train (small data). "inference": moving statistics as loaded,
            gamma and beta train. "trainable": statistics of the batch, as in training
            from scratch (batches of some hundred images).

    Raises:
        InputError: no such stage or mode, or no EfficientNet in the model.
    """
    found = stages(model)
    if not found:
        raise InputError(f"Model '{model.name}' contains no EfficientNet built by effnet_tf.")
    names = list(dict.fromkeys((*found, "classifier")))
    _check_stage(model, from_stage, names)
    check_batch_norm_mode(batch_norm)
    _thaw(model)
    for stage, layers in found.items():
        trains = names.index(stage) >= names.index(from_stage)
        for layer in layers:
            _set_layer(layer, trains, batch_norm)
    model.train_function = None  # what Keras traced trains the old part
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


def _set_layer(layer, trains, batch_norm):
    if isinstance(layer, BatchNorm):
        layer.mode = batch_norm
    elif isinstance(layer, (MBConv, FusedMBConv)):
        layer.batch_norm = batch_norm
    layer.trainable = trains


def _thaw(model):
    """Makes frozen models trainable, and leaves the layers in them as they are."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _thaw(layer)
    if not model.trainable:
        before = [(layer, layer.trainable) for layer in model.layers]
        model.trainable = True
        for layer, trainable in before:
            layer.trainable = trainable
