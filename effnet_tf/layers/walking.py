"""Which layers does a model have, however deep they are inside others?"""

from collections.abc import Iterator

import keras

from effnet_tf.errors import InputError
from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.layers.norm import BatchNorm
from effnet_tf.layers.squeeze_excite import SqueezeExcite

_WHOLE = (ConvolutionalBlock, SqueezeExcite)  # of several layers, but each is one for people


def check_model(model: keras.Model) -> None:
    """Raises InputError unless it is a `keras.Model`."""
    if not isinstance(model, keras.Model):
        raise InputError(f"A keras.Model belongs here, not {model!r}.")


def sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns the layers directly inside a model, a wrapper or a layer of the user's.

    A layer that consists of no others has none; nor has a block of this package, which is a
    whole.
    """
    if isinstance(layer, keras.Model):
        return layer.layers
    if isinstance(layer, _WHOLE):
        return []
    return layer._flatten_layers(include_self=False, recursive=False)


def flatten(model: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields the innermost layers of a model, each once, in order.

    They are found in models inside it, in wrappers such as `TimeDistributed`, in subclassed
    models and in layers of the user's. Blocks, such as `MBConv`, are not taken apart.
    """
    seen, waiting = set(), [model]
    while waiting:
        layer = waiting.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        inside = sublayers(layer)
        if not inside and layer is not model:
            yield layer
        waiting += reversed(inside)


def holders(model: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields the model, and every model, wrapper or layer inside it that holds others."""
    seen, waiting = set(), [model]
    while waiting:
        layer = waiting.pop()
        inside = sublayers(layer)
        if inside and id(layer) not in seen:
            yield layer
            waiting += reversed(inside)
        seen.add(id(layer))


def batch_norms(model: keras.Model) -> list[BatchNorm]:
    """Returns the batch norms of a model, those inside its blocks and nested models too."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, BatchNorm)]
