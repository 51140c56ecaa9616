"""How do the parts of a network become a flat graph of Keras' own layers?

The form of the drop-in constructors: the layers, their names and their order are those of
keras.applications' EfficientNet (keras/src/applications/efficientnet.py), so that programs that
walk or name layers do what they do there, and a saved model loads without this package. A row says
by `keras_graph` if it is EfficientNetV2's (efficientnet_v2.py): there convolutions pad themselves,
those of one kernel per channel are called dwconv2, and pixel constants are no weights.
`composite.py` has the same functions. Deviations from keras.applications:

- CondConv, which is not there, is of layers of this package.
- Padding: its pads are right for even sides alone where a side is unknown (None); there ours
  pad nothing and the convolution pads itself, so that every side is right.
- Means, pixels and class scores are float32 under every dtype policy but float64.
- Kernels start untruncated, see `layers.conv_initializer`.
- Drop rates of EfficientNetV2 ramp over all blocks, as the original's; theirs overshoot in B1 to B3
  (0.295 in B3's last block instead of 0.194), whose scaled blocks they do not count.
- Theirs normalises EfficientNetV2 by (x - 128) / 128 unless the name of the model says that it is
  one of B0 to B3 and images have 3 channels. Ours depends on the variant alone; for other channels
  it takes the average of the constants.
"""

import keras
import numpy as np
from keras import KerasTensor

from effnet_tf.layers import Routing, follow_weights, settings_layers, watch_range
from effnet_tf.layers.convolutions import conv_layer, precise, zero_padding
from effnet_tf.layers.lean_neighbours import lighten
from effnet_tf.layers.lean_norm import fuse
from effnet_tf.layers.shapes import same_padding
from effnet_tf.variants import Block, Convolution, Network

_GREY_LEVELS = 255.0
_NO_EXPERTS: tuple[KerasTensor, ...] = ()
_V2 = "efficientnet_v2"


def normalize(network: Network, pixels: KerasTensor) -> KerasTensor:
    """Returns (pixels - mean) / std of images (N, H, W, C).

    The constants are weights of the Normalization layer, in units of 255 grey levels; of
    EfficientNetV2 they are settings.
    """
    if network.keras_graph == _V2:
        return _normalize_by_settings(network, pixels)
    rescaling = keras.layers.Rescaling(1 / _GREY_LEVELS, dtype=precise())
    x = rescaling(pixels)
    watch_range(rescaling)
    layer = keras.layers.Normalization(axis=3, dtype=precise())
    layer.build(x.shape)
    layer.adapt_mean.assign(np.asarray(network.mean) / _GREY_LEVELS)
    layer.adapt_variance.assign(np.square(np.asarray(network.std) / _GREY_LEVELS))
    follow_weights(layer)
    return layer(x)


def _normalize_by_settings(network, pixels):
    first, *others = settings_layers(network.mean, network.std)
    x = first(pixels)
    watch_range(first)
    for layer in others:
        x = layer(x)
    return x


def convolution(
    network: Network,
    described: Convolution,
    x: KerasTensor,
    prefix: str = "",
    routing: tuple[KerasTensor, ...] = _NO_EXPERTS,
) -> KerasTensor:
    """Adds a convolution, its batch norm and, if it has one, its activation.

    `routing` holds the weights of experts, (N, experts), where it has some.
    """
    name, padding = prefix + _called(network, described), None
    if any(described.explicit_padding):
        x = zero_padding(described, f"{name}_pad")(x)
    elif _pads_before(network, described, prefix):
        x, padding = _padded(described, x, f"{name}_pad")
    x = conv_layer(described, x.shape, name=name, padding=padding)(x, *routing)
    batch_norm = keras.layers.BatchNormalization(
        axis=3,
        momentum=network.batch_norm_momentum,
        epsilon=network.batch_norm_epsilon,
        name=f"{prefix}{described.batch_norm}",
    )
    fuse(batch_norm)
    x = batch_norm(x)
    if described.after_sum:
        return x
    return _activation(described, x, prefix)


def _called(network, described):
    if network.keras_graph == _V2 and described.kind == "depthwise":
        return f"{described.name}2"
    return described.name


def _pads_before(network, described, prefix):
    """Whether keras.applications has a layer of zeros before a convolution."""
    if network.keras_graph == _V2 or described.strides == 1:
        return False
    return described.kind == "depthwise" or not prefix


def _activation(described, x, prefix):
    if described.activation is None:  # the projection is linear
        return x
    layer = keras.layers.Activation(described.activation, name=prefix + described.activation_name)
    return lighten(layer, described.activation)(x)


def _padded(described, x, name):
    """Pads a map as SAME does; returns it, and how the convolution pads after that.

    keras.applications has this layer before the stem and before depthwise strides.
    """
    sides = x.shape[1:3]
    if None in sides:
        amounts, padding = ((0, 0), (0, 0)), "same"
    else:
        kernel = described.kernel_size, described.strides, described.dilation_rate
        amounts, padding = tuple(same_padding(side, *kernel) for side in sides), "valid"
    x = keras.layers.ZeroPadding2D(amounts, data_format="channels_last", name=name)(x)
    return x, padding


def block(network: Network, block: Block, x: KerasTensor) -> tuple[KerasTensor, KerasTensor | None]:
    """Adds a block; returns its output, and its expanded map if that is as large as its input."""
    prefix, inputs, expanded = f"{block.name}_", x, None
    added, routing = inputs, _NO_EXPERTS
    for described in block.convolutions:
        if described.routes:
            routing = (Routing(described.filters, name=prefix + described.name)(inputs),)
        elif described.name == "se/reduce":
            squeezed = _squeeze(described, x, prefix)
        elif described.name == "se/expand":
            x = _excite(described, x, squeezed, prefix)
        elif described.shortcut:
            added = convolution(network, described, inputs, prefix, routing)
        else:
            x = convolution(network, described, x, prefix, routing)
        if described.name == "expand_conv" and described.strides == 1:
            expanded = x
    if block.skip:
        x = _residual(block, x, added, prefix)
    if described.after_sum:
        x = _activation(described, x, prefix)
    return x, expanded


def _squeeze(described, x, prefix):
    """Returns the means of a map's channels, (N, 1, 1, C), after the first 1x1 convolution."""
    mean = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype=precise(), name=f"{prefix}se_squeeze"
    )(x)
    mean = keras.layers.Reshape((1, 1, described.input_filters), name=f"{prefix}se_reshape")(mean)
    name, activation = f"{prefix}se_reduce", described.activation
    return conv_layer(described, mean.shape, name=name, activation=activation)(mean)


def _excite(described, x, squeezed, prefix):
    """Returns a map times the gates of its channels."""
    name, activation = f"{prefix}se_expand", described.activation
    gate = conv_layer(described, squeezed.shape, name=name, activation=activation)
    return keras.layers.Multiply(name=f"{prefix}se_excite")([x, gate(squeezed)])


def _residual(block, x, added, prefix):
    if block.drop_connect_rate > 0:
        x = keras.layers.Dropout(
            block.drop_connect_rate, noise_shape=(None, 1, 1, 1), name=f"{prefix}drop"
        )(x)
    return keras.layers.Add(name=f"{prefix}add")([x, added])


def dropout(rate: float, x: KerasTensor) -> KerasTensor:
    """Adds the dropout before the classifier, in float32 at least."""
    return keras.layers.Dropout(rate, dtype=precise(), name="top_dropout")(x)
