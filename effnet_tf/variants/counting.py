"""What does a variant cost, before anything is built?

Parameters, multiply-adds and activation bytes, summed over the convolutions of `resolve`, in
plain Python: B7 takes a minute to build and a millisecond to count.
"""

import dataclasses

from effnet_tf.variants.convolutions import Convolution
from effnet_tf.variants.network import check_resolution, resolve
from effnet_tf.variants.rows import Variant


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

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.params + other.params,
            self.trainable_params + other.trainable_params,
            self.multiply_adds + other.multiply_adds,
            self.activation_bytes + other.activation_bytes,
        )


def cost_of(convolution: Convolution, side: int) -> Cost:
    """Returns what one convolution costs for a square input of this side, in pixels."""
    return Cost(
        params=convolution.parameters,
        trainable_params=convolution.trainable_parameters,
        multiply_adds=convolution.multiply_adds(side),
        activation_bytes=4 * convolution.filters * convolution.output_side(side) ** 2,
    )


def cost(
    variant: str | Variant, *, resolution: int | None = None, num_classes: int | None = None
) -> Cost:
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
    network = resolve(variant, resolution=resolution, num_classes=num_classes)
    check_resolution(network.side, network.name)
    total, side = Cost(), network.side
    for convolution in network.convolutions():
        total += cost_of(convolution, side)
        if not convolution.pooled:  # beside the map, not in its way
            side = convolution.output_side(side)
    return total
