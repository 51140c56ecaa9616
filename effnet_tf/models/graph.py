"""How does a resolved network become a graph of Keras layers?

A loop over its blocks: no number is computed here. The layers outside the blocks carry the
names they have in keras.applications (`stem_conv`, `top_activation`, `avg_pool`,
`predictions`), so that programs that look them up keep working.
"""

import keras
from keras import KerasTensor

from effnet_tf import layers
from effnet_tf.errors import InputError
from effnet_tf.layers.convolutions import conv_layer
from effnet_tf.layers.shapes import Shape
from effnet_tf.variants import Block, Network, check_resolution


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
    return _checked_channels(tuple(input_shape))


def _checked_channels(shape):
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
        InputError: a side is below 32 pixels.
    """
    if input_tensor is None:
        input_tensor = keras.Input(input_shape or (None, None, 3), name="input_layer")
    _check_sides(input_tensor.shape[1:3], network)
    inputs = keras.utils.get_source_inputs(input_tensor)
    if len(inputs) == 1:
        return inputs[0], input_tensor
    return inputs, input_tensor


def _check_sides(sides, network):
    for side in sides:
        if side is not None:
            check_resolution(side, f"variant '{network.name}'")


def features(network: Network, pixels: KerasTensor) -> dict[str, KerasTensor]:
    """Adds everything before the classifier to a graph.

    Args:
        network: what to build.
        pixels: (N, H, W, C) in [0, 255], or normalised where the network has no constants.

    Returns:
        Its maps by endpoint, each (N, H/s, W/s, F): "stem", "reduction_1", ..., "head".
    """
    x, endpoints = pixels, {}
    if network.mean:
        x = layers.Normalize(network.mean, network.std, name="normalization")(x)
    x = endpoints["stem"] = _conv_bn_activation(network.stem, x, "stem_activation")
    for block in network.blocks:
        x = block_layer(block)(x)
        if block.reduction is not None:
            endpoints[f"reduction_{block.reduction}"] = x
    endpoints["head"] = _conv_bn_activation(network.head, x, "top_activation")
    return endpoints


def _conv_bn_activation(convolution, x, name):
    x = conv_layer(convolution)(x)
    x = layers.batch_norm(convolution.batch_norm)(x)
    return keras.layers.Activation(convolution.activation, name=name)(x)


def block_layer(block: Block) -> keras.layers.Layer:
    """Returns the layer of a block."""
    kind = layers.FusedMBConv if block.fused else layers.MBConv
    return kind(
        filters=block.filters,
        expanded_filters=block.expanded_filters,
        kernel_size=block.kernel_size,
        strides=block.strides,
        se_filters=block.se_filters,
        drop_connect_rate=block.drop_connect_rate,
        activation=block.activation,
        skip=block.skip,
        dilation_rate=block.dilation_rate,
        name=block.name,
    )


def classifier(
    network: Network, features: KerasTensor, activation: str | None
) -> dict[str, KerasTensor]:
    """Adds pooling, dropout and the dense layer to a graph.

    They are float32 under every dtype policy.

    Args:
        network: what to build.
        features: (N, H, W, F), of the head.
        activation: of the class scores; None gives logits.

    Returns:
        {"pooled_features": (N, F), "logits": (N, classes)}, the latter activated.
    """
    pooled = x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype="float32", name="avg_pool"
    )(features)
    if network.dropout_rate > 0:
        x = layers.Dropout(network.dropout_rate, dtype="float32", name="top_dropout")(x)
    scores = keras.layers.Dense(
        network.classifier.filters,
        activation=activation,
        kernel_initializer=layers.dense_initializer(),
        dtype="float32",
        name=network.classifier.name,
    )(x)
    return {"pooled_features": pooled, "logits": scores}


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
