"""How does a resolved network become a graph of Keras layers?

A loop over its blocks: no number is computed here, and what the layers are is said by a form,
`composite.py` or `flat.py`. The layers outside the blocks carry the names they have in
keras.applications (`stem_conv`, `top_activation`, `avg_pool`, `predictions`), so that programs
that look them up keep working. The input and the pixels' layers have Keras' automatic names:
fixed ones would collide as soon as a second model or input joins.
"""

import operator
from typing import Protocol, cast

import keras
from keras import KerasTensor

from effnet_tf.errors import InputError
from effnet_tf.layers import allow_depth
from effnet_tf.layers.convolutions import conv_initializer, dense_initializer, precise
from effnet_tf.layers.shapes import Shape
from effnet_tf.models import composite
from effnet_tf.models import flat as flat_form
from effnet_tf.models.short_names import short_names
from effnet_tf.variants import Block, Convolution, Network, check_resolution

_MOST_IN_A_BLOCK = 15  # layers, of the flat form
_LARGE = 32  # a last axis of so much behind 1, 3 or 4 is a side: channels come first


class Form(Protocol):
    """What a part of a network is made of: `composite.py` and `flat.py`."""

    def normalize(self, network: Network, pixels: KerasTensor) -> KerasTensor: ...

    def convolution(
        self, network: Network, described: Convolution, x: KerasTensor
    ) -> KerasTensor: ...

    def block(
        self, network: Network, block: Block, x: KerasTensor
    ) -> tuple[KerasTensor, KerasTensor | None]: ...

    def dropout(self, rate: float, x: KerasTensor) -> KerasTensor: ...


def form_of(flat: bool, network: Network) -> Form:
    """Returns the flat form, in which Keras may then walk the network, or that of blocks."""
    if flat:
        allow_depth(_MOST_IN_A_BLOCK * len(network.blocks))
        return cast(Form, flat_form)
    return cast(Form, composite)


def channels_of(input_tensor: KerasTensor | None, input_shape: Shape | None) -> int:
    """Returns the channels of the images that a model shall take: of the tensor, else the shape.

    Args:
        input_tensor: (N, H, W, C) or None.
        input_shape: (H, W, C) or None; with neither of them the images are RGB.

    Raises:
        InputError: the tensor is none of Keras', or the shape is not that of images.
    """
    if input_tensor is not None:
        if not keras.backend.is_keras_tensor(input_tensor):
            raise InputError("input_tensor is not a Keras tensor; make one with keras.Input.")
        input_shape = input_tensor.shape[1:]
    if input_shape is None:
        return 3
    return _checked_channels(_sides(input_shape))


def _sides(shape):
    """Returns a shape as a tuple of int and None."""
    try:
        return tuple(None if side is None else operator.index(side) for side in shape)
    except TypeError:
        raise InputError(
            f"The input shape is {shape!r}; it must be (height, width, channels), in whole pixels."
        ) from None


def _checked_channels(shape):
    if len(shape) == 3 and shape[0] in (1, 3, 4) and (shape[2] or 0) >= _LARGE:
        raise InputError(
            f"The input shape is {shape}, channels first; this package takes images as (height, "
            f"width, channels): give {(*shape[1:], shape[0])} and transpose the images."
        )
    if len(shape) != 3 or shape[2] is None or shape[2] < 1:
        raise InputError(
            f"The input shape is {shape}; it must be (height, width, channels), "
            "of which height and width may be None."
        )
    return shape[2]


def images(
    network: Network, input_tensor: KerasTensor | None, input_shape: Shape | None
) -> tuple[KerasTensor | list[KerasTensor], KerasTensor]:
    """Returns (the inputs of a model, its images), which `channels_of` has looked at.

    Args:
        network: names the variant in messages.
        input_tensor: (N, H, W, C), computed from the inputs, or None for an input here.
        input_shape: (H, W, C) of an input that is made here; None for RGB of any side.

    Raises:
        InputError: a side is below the network's `least_side`.
    """
    if input_tensor is None:
        shape = (None, None, 3) if input_shape is None else _sides(input_shape)
        _check_sides(shape[:2], network)
        input_tensor = keras.Input(shape)
    _check_sides(input_tensor.shape[1:3], network)
    inputs = keras.utils.get_source_inputs(input_tensor)
    if len(inputs) == 1:
        return inputs[0], input_tensor
    return inputs, input_tensor


def _check_sides(sides, network):
    for side in sides:
        if side is not None:
            check_resolution(side, f"variant '{network.name}'", network.least_side)


@short_names()
def features(network: Network, pixels: KerasTensor, form: Form) -> dict[str, KerasTensor]:
    """Adds everything before the classifier to a graph.

    Args:
        network: what to build.
        pixels: (N, H, W, C) in [0, 255], or normalised where the network has no constants.
        form: what the layers are.

    Returns:
        Its maps by endpoint, each (N, H/s, W/s, F): "stem", "reduction_1", ..., "head"; and
        "reduction_2/expansion", ... where the form has them.
    """
    x, endpoints = pixels, {}
    if network.mean:
        x = form.normalize(network, x)
    x = endpoints["stem"] = form.convolution(network, network.stem, x)
    if network.stem.pool_size or network.blocks[0].strides > 1:
        endpoints["reduction_1"] = x  # of stride 2 there is no block
    if network.stem.pool_size:
        x = _largest(network.stem, x)
    reduction = None  # of the block before
    for block in network.blocks:
        x, expanded = form.block(network, block, x)
        if reduction is not None and expanded is not None:
            endpoints[f"reduction_{reduction}/expansion"] = expanded
        reduction = block.reduction
        if reduction is not None:
            endpoints[f"reduction_{reduction}"] = x
    if network.head is not None:
        x = form.convolution(network, network.head, x)
    endpoints["head"] = x
    return endpoints


def _largest(stem, x):
    """Adds the maxima over windows that follow a stem."""
    padding = stem.padding
    if padding == "symmetric":  # with zeros, as keras.applications' ResNet; after relu all is one
        x = keras.layers.ZeroPadding2D(
            stem.pool_size // 2, data_format="channels_last", name="stem_pool_pad"
        )(x)
        padding = "valid"
    return keras.layers.MaxPooling2D(
        stem.pool_size, 2, padding, data_format="channels_last", name="stem_pool"
    )(x)


@short_names()
def classifier(
    network: Network, features: KerasTensor, activation: str | None, form: Form
) -> dict[str, KerasTensor]:
    """Adds pooling, dropout and the dense layer to a graph.

    They are float32 under every dtype policy but float64.

    Args:
        network: what to build.
        features: (N, H, W, F), of the head.
        activation: of the class scores; None gives logits.
        form: what the layers are.

    Returns:
        {"pooled_features": (N, F), "logits": (N, classes)}, the latter activated. F are the
        channels of the map, whatever dense layer stands before the classifier.
    """
    pooled = x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype=precise(), name="avg_pool"
    )(features)
    if network.top is not None:
        x = _top(network.top, x)
    if network.dropout_rate > 0:
        x = form.dropout(network.dropout_rate, x)
    scores = keras.layers.Dense(
        network.classifier.filters,
        activation=activation,
        kernel_initializer=dense_initializer(),
        dtype=precise(),
        name=network.classifier.name,
    )(x)
    return {"pooled_features": pooled, "logits": scores}


def _top(described, x):
    """Adds the dense layer before the classifier, and its activation."""
    x = keras.layers.Dense(
        described.filters,
        kernel_initializer=conv_initializer(),
        dtype=precise(),
        name=described.name,
    )(x)
    name = f"{described.name}_activation"
    return keras.layers.Activation(described.activation, dtype=precise(), name=name)(x)


def pool(features: KerasTensor, pooling: str | None) -> KerasTensor:
    """Returns a map (N, H, W, F) itself, or its mean ("avg") or maximum ("max"), (N, F).

    Raises:
        InputError: another way of pooling.
    """
    if pooling is None:
        return features
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D("channels_last", name="avg_pool")(features)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D("channels_last", name="max_pool")(features)
    raise InputError(f"pooling is {pooling!r}; it must be None, 'avg' or 'max'.")
