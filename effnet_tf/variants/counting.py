"""What does a variant cost, before anything is built?

Parameters, multiply-adds and activation bytes from `config.blocks`, in plain
Python: B7 takes a minute to build and a millisecond to count.
"""

import dataclasses

from effnet_tf import errors, variants


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one variant costs at one resolution, for one image.

    Attributes:
        params: all variables of the network, batch-norm statistics included.
        trainable_params: those that training changes.
        multiply_adds: of convolutions, depthwise convolutions and dense layers,
            squeeze-and-excite included. Biases, batch norm, activations, pooling,
            the multiplication by the excitation and the residual sum are not
            counted (the usual definition; the paper's "FLOPs").
        activation_bytes: of the float32 outputs of every convolution, depthwise
            convolution and dense layer: about what training keeps of each image for
            the backward pass. Halve it for bfloat16.
    """

    params: int = 0
    trainable_params: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0

    def __add__(self, other):
        return Cost(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other))))


def _conv(side, kernel_size, channels_in, channels_out, *, bias=False, batch_norm=True):
    """Costs a convolution with `side` x `side` outputs, and its bias or batch norm."""
    weights = kernel_size**2 * channels_in * channels_out
    trainable = weights + channels_out * (bias + 2 * batch_norm)
    return Cost(
        params=trainable + 2 * channels_out * batch_norm,
        trainable_params=trainable,
        multiply_adds=weights * side**2,
        activation_bytes=4 * channels_out * side**2,
    )


def _depthwise(side, kernel_size, channels):
    # One input channel per output channel: a convolution over a single channel.
    return _conv(side, kernel_size, 1, channels)


def _dense(channels_in, channels_out):
    return _conv(1, 1, channels_in, channels_out, bias=True, batch_norm=False)


def _squeeze_excite(channels, squeezed):
    return _dense(channels, squeezed) + _dense(squeezed, channels)


def _block(block, side):
    """Costs a block whose input is `side` x `side`; returns it and the output's side."""
    out_side = -(-side // block.strides)  # SAME padding: rounded up
    hidden = block.expanded_filters
    if block.fused:
        total = _conv(out_side, block.kernel_size, block.input_filters, hidden)
    else:
        total = _depthwise(out_side, block.kernel_size, hidden)
        if hidden != block.input_filters:
            total += _conv(side, 1, block.input_filters, hidden)
    if block.se_filters:
        total += _squeeze_excite(hidden, block.se_filters)
    return total + _conv(out_side, 1, hidden, block.filters), out_side


def cost(variant, *, resolution=None, num_classes=None):
    """Counts what a variant costs, without TensorFlow.

    Args:
        variant: a name of `VARIANTS` or a `Variant`.
        resolution: side of the square RGB image in pixels; by default the variant's.
        num_classes: classes of the classifier; by default the variant's.

    Returns:
        A `Cost` for one image.

    Raises:
        InputError: unknown name, resolution below 32, or no class.

    Example:
        >>> cost("b0").trainable_params
        5288548
    """
    variant = variants.find_variant(variant)
    resolution = variant.resolution if resolution is None else resolution
    num_classes = variant.num_classes if num_classes is None else num_classes
    variants.check_resolution(resolution, variant.name)
    if num_classes < 1:
        raise errors.InputError(f"num_classes is {num_classes}; it must be at least 1.")
    stem, head = variants.stem_and_head_filters(variant)
    side = -(-resolution // 2)
    total = _conv(side, 3, 3, stem)
    for block in variants.blocks(variant):
        block_cost, side = _block(block, side)
        total += block_cost
    return total + _conv(side, 1, block.filters, head) + _dense(head, num_classes)
