"""How do the parts of a network become layers of this package, one for each block?

The form of `model_fn`: quick to build, with masks by seed, step and replica, and batch norm
that can keep its statistics while it trains. `flat.py` has the same functions.
"""

import keras
from keras import KerasTensor

from effnet_tf import layers
from effnet_tf.layers.convolutions import conv_layer, precise, zero_padding
from effnet_tf.layers.lean_neighbours import forget, lighten
from effnet_tf.variants import Block, Convolution, Network

# Those of EfficientNets, which files of whole models hold.
_INVERTED = {"mbconv": layers.MBConv, "fused_mbconv": layers.FusedMBConv}


def normalize(network: Network, pixels: KerasTensor) -> KerasTensor:
    """Returns (pixels - mean) / std of images (N, H, W, C)."""
    return layers.Normalize(network.mean, network.std)(pixels)


def convolution(network: Network, described: Convolution, x: KerasTensor) -> KerasTensor:
    """Adds a convolution outside the blocks, its batch norm and its activation."""
    if any(described.explicit_padding):
        x = zero_padding(described, f"{described.name}_pad")(x)
    x = forget(conv_layer(described, x.shape))(x)
    x = layers.batch_norm(
        str(described.batch_norm),
        momentum=network.batch_norm_momentum,
        epsilon=network.batch_norm_epsilon,
    )(x)
    layer = keras.layers.Activation(described.activation, name=described.activation_name)
    return lighten(layer, described.activation)(x)


def block(network: Network, block: Block, x: KerasTensor) -> tuple[KerasTensor, None]:
    """Adds a block; returns its output, and None: what is inside it is no part of the graph."""
    shared: dict = dict(
        skip=block.skip,
        drop_connect_rate=block.drop_connect_rate,
        batch_norm_momentum=network.batch_norm_momentum,
        batch_norm_epsilon=network.batch_norm_epsilon,
        name=block.name,
    )
    kind = _INVERTED.get(block.kind)
    if kind is None or _is_different(block):
        return layers.DescribedBlock(block.convolutions, **shared)(x), None
    layer = kind(
        filters=block.filters,
        expanded_filters=block.expanded_filters,
        kernel_size=block.kernel_size,
        strides=block.strides,
        se_filters=block.se_filters,
        activation=block.activation,
        dilation_rate=block.dilation_rate,
        padding=block.padding,
        **shared,
    )
    return layer(x), None


def _is_different(block):
    """Whether an inverted bottleneck has what those of EfficientNets have not."""
    settings = block.project_activation, block.se_activation, block.se_gate
    return settings != (None, None, "sigmoid") or block.bias or block.experts > 0


def dropout(rate: float, x: KerasTensor) -> KerasTensor:
    """Adds the dropout before the classifier, in float32 at least."""
    return layers.Dropout(rate, dtype=precise(), name="top_dropout")(x)
