"""Which networks do the programs build: theirs, and the same ones of ours?

Theirs is `keras.applications`, with fewer and narrower stages. Of Lite it knows no constructor,
but its function builds one; of EdgeTPU it has no fused block, which `edgetpu.py` adds.
EfficientNetV2 is its own, with the pixels of S: those of B0 depend on the model's name there.
"""

import dataclasses
import os

import keras
import numpy as np
from keras.src.applications import efficientnet, efficientnet_v2

import effnet_tf
from effnet_tf.variants import VARIANTS, Stage
from tests.habits import edgetpu
from tests.helpers import tiny_v2

WIDTH, CLASSES, SIDE = 0.25, 3, 32
FAMILIES = ("b0", "lite0", "edgetpu-s", "v2-s")


def stages_of(family: str, tall: bool) -> tuple[Stage, ...]:
    """Returns two stages that hold every kind of layer, or all stages with few blocks."""
    stages = VARIANTS[family].stages
    if not tall:
        return (
            dataclasses.replace(stages[0], repeats=1),
            dataclasses.replace(stages[1], repeats=2),
        )
    return tuple(
        dataclasses.replace(stage, repeats=min(stage.repeats, 1 + (number == 5)))
        for number, stage in enumerate(stages)
    )


def ours(family: str, tall: bool, flat: bool = True, **arguments) -> keras.Model:
    """Builds ours, with the arguments of keras.applications."""
    variant = dataclasses.replace(
        VARIANTS[family],
        name="tiny",
        width_coefficient=WIDTH,
        stages=stages_of(family, tall),
        resolution=SIDE,
    )
    if not variant.scale_stem_and_head:
        variant = dataclasses.replace(variant, stem_filters=8, head_filters=320)
    classes = arguments.pop("classes")
    return effnet_tf.model_fn(variant, classes, flat=flat, **arguments)


def composite(family: str, tall: bool, **arguments) -> keras.Model:
    """Builds ours with a layer per block, which theirs is not."""
    return ours(family, tall, flat=False, **arguments)


def theirs(family: str, tall: bool, **arguments) -> keras.Model:
    """Builds the same network of keras.applications."""
    row = VARIANTS[family]
    if row.keras_graph == "efficientnet_v2":
        return _theirs_v2(row, stages_of(family, tall), **arguments)
    blocks = [
        dict(
            kernel_size=stage.kernel_size,
            repeats=stage.repeats,
            filters_in=stage.input_filters,
            filters_out=stage.filters,
            expand_ratio=stage.expand_ratio,
            id_skip=stage.skip,
            strides=stage.strides,
            se_ratio=row.se_ratio,
        )
        for stage in stages_of(family, tall)
    ]
    if family == "edgetpu-s":
        for block, stage in zip(blocks, stages_of(family, tall)):
            block["fused"] = stage.fused
        return edgetpu.build(WIDTH, blocks, row.activation, row.dropout_rate, SIDE, **arguments)
    return efficientnet.EfficientNet(
        WIDTH,
        1.0,
        SIDE,
        row.dropout_rate,
        activation=row.activation,
        blocks_args=blocks,
        weights_name="b0",
        **arguments,
    )


def _theirs_v2(row, stages, **arguments):
    blocks = tiny_v2.blocks_args(row, stages)
    name = arguments.pop("name")  # theirs normalises otherwise where it begins with a "b"
    model = efficientnet_v2.EfficientNetV2(
        WIDTH, 1.0, SIDE, row.dropout_rate, blocks_args=blocks, name="v2-s", **arguments
    )
    model.name = name
    return model


BUILDERS = {"theirs": theirs, "ours": ours}
PREPROCESS = {"theirs": efficientnet.preprocess_input, "ours": effnet_tf.preprocess_input}


def constructor(who: str, family: str = "b0", tall: bool = False, reloaded: bool = False):
    """Returns a function with the arguments of keras.applications.EfficientNetB0.

    Args:
        who: "theirs" or "ours".
        family: of `FAMILIES`.
        tall: whether all stages are wanted, or only two.
        reloaded: whether to save what was built, and return what is loaded again.
    """

    def EfficientNet(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=CLASSES,
        classifier_activation="softmax",
        name="efficientnet",
    ):
        model = BUILDERS[who](
            family,
            tall,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )
        if weights is None:
            set_values(model, VARIANTS[family])
        if reloaded and input_tensor is None:
            model.save("reloaded.keras")
            model = keras.saving.load_model("reloaded.keras")
            os.remove("reloaded.keras")
        return model

    EfficientNet.family = family
    EfficientNet.preprocess_input = PREPROCESS[who]
    return EfficientNet


def set_values(model: keras.Model, row: effnet_tf.Variant) -> None:
    """Gives the weights values as of a trained network, the same ones for ours and theirs."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.adapt_mean.assign(_per_channel(row.mean, layer.adapt_mean) / 255)
            layer.adapt_variance.assign((_per_channel(row.std, layer.adapt_mean) / 255) ** 2)
            layer.finalize_state()
            continue
        for number, weight in enumerate(layer.weights):
            if "float" in weight.dtype:  # a dropout's seed stays as the program's seed gave it
                weight.assign(_value(weight, f"{layer.name}/{number}"))


def _per_channel(constants, like):
    if like.shape[0] == 3:
        return np.float32(constants)
    return np.full(like.shape, np.mean(constants), "float32")


def _value(weight, key):
    random = np.random.default_rng(list(key.encode()))
    if len(weight.shape) > 1:
        fan_in = np.prod(weight.shape[:-1])
        if weight.shape[-1] == 1:  # depthwise
            fan_in = np.prod(weight.shape[:2])
        return random.normal(0, 1.4 / fan_in**0.5, weight.shape)
    if weight.name in ("gamma", "moving_variance"):
        return random.uniform(0.5, 1.5, weight.shape)
    return random.normal(0, 0.1, weight.shape)
