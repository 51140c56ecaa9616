"""Which part of a network trains, and what does its batch norm do meanwhile?"""

import math
import re

import keras

from effnet_tf.errors import InputError, first_line
from effnet_tf.layers import BatchNorm, check_batch_norm_mode, flatten
from effnet_tf.layers.mbconv import FusedMBConv, MBConv


def stages(model):
    """Returns {stage: its layers} of a model, in order, the models inside it included.

    The stages are "stem", "stage_1" to "stage_7" (EdgeTPU: 6), "head" (the last
    convolution and its batch norm) and, where there is one, "classifier".
    """
    layers = list(flatten(model))
    if not any(isinstance(layer, (MBConv, FusedMBConv)) for layer in layers):
        return {}  # keras.applications' layers have the same names
    found = {}
    for layer in layers:
        block = re.fullmatch(r"block(\d+)[a-z]+", layer.name)
        stage = (
            f"stage_{block[1]}"
            if block
            else {
                "stem_conv": "stem",
                "stem_bn": "stem",
                "top_conv": "head",
                "top_bn": "head",
                "predictions": "classifier",
            }.get(layer.name)
        )
        if stage:
            found.setdefault(stage, []).append(layer)
    return found


def set_trainable(model, from_stage="stem", batch_norm="frozen"):
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
    names = [*dict.fromkeys((*found, "classifier"))]
    if not found:
        raise InputError(f"Model '{model.name}' holds no EfficientNet of this package.")
    if from_stage not in names:
        raise InputError(
            f"There is no stage '{from_stage}' in model '{model.name}'; it has {', '.join(names)}."
        )
    try:
        check_batch_norm_mode(batch_norm)
    except ValueError as error:
        raise InputError(f"{first_line(error)}.") from error
    _thaw(model)
    for stage, layers in found.items():
        for layer in layers:
            if isinstance(layer, BatchNorm):
                layer.mode = batch_norm
            elif isinstance(layer, (MBConv, FusedMBConv)):
                layer.batch_norm = batch_norm
            layer.trainable = names.index(stage) >= names.index(from_stage)
    model.train_function = None  # what Keras traced trains the old part
    training = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    print(
        f"{training:,} of {model.count_params():,} parameters train, from {from_stage} on; "
        f"batch norm: {batch_norm}"
    )


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
