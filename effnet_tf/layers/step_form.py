"""What does a training step of a model keep for its gradient, and who is asked to keep less?"""

import keras

from effnet_tf.errors import InputError
from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.layers.walking import check_model
from effnet_tf.variants import check_remat

_KEPT = {
    "none": "of blocks only the outputs of convolutions are kept for the gradient",
    "expansion": "of blocks only the outputs of convolutions are kept, but for those that widen",
    "block": "of blocks only the inputs are kept, and all else is computed twice",
}


def set_remat(model: keras.Model, remat: str) -> None:
    """Chooses what the blocks of a model compute again in the backward pass, to need less memory.

    Rematerialisation changes nothing that is computed but rounding, and nothing that is saved: a
    loaded model has "none". Keras notices it when the model is compiled next.

    Args:
        model: as `model_fn` returns it; flat networks have no blocks.
        remat: "none": nothing that costs time: on a CPU the stem's convolution, and the widened
            maps of blocks that take at most 16 channels; "expansion": the widened map of every
            block, a 1x1 convolution, on a CPU where the block takes at most 128 channels (beyond,
            it costs more than it saves); "block": everything inside the blocks.

    Raises:
        InputError: another word, or a model without blocks.

    Example:
        >>> model = model_fn("b0")
        >>> set_remat(model, "expansion")
    """
    check_model(model)
    check_remat(remat)
    blocks = _blocks(model)
    if not blocks:
        raise InputError(
            f"The model '{model.name}' has no blocks whose maps could be computed again: build "
            "the network with model_fn, without flat=True."
        )
    for block in blocks:
        block.remat = remat


def described(model: keras.Model) -> str:
    """Returns a line that says in which form the blocks of a model are trained here, and why."""
    blocks = _blocks(model)
    for block in blocks:
        reason = block.plain_because()
        if reason is not None:
            return f"step: plain, by Keras' own layers ({reason})"
    return f"step: lean, {_KEPT[blocks[0].remat]}"


def _blocks(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, ConvolutionalBlock)]
