"""What does a variant cost, before anything is built?

Parameters, multiply-adds and memory, summed over the convolutions of `resolve`, in plain Python:
B7 takes a minute to build and a millisecond to count. What a block costs at a size is counted
once, and a network is a sum over its parts: so a planner can compare thousands.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import NamedTuple

from effnet_tf.errors import InputError
from effnet_tf.variants.convolutions import Convolution
from effnet_tf.variants.network import Network, check_count, check_resolution, resolve
from effnet_tf.variants.rows import Variant

# Bytes of a number in a map. Variables are float32 whatever the maps are (mixed precision).
DTYPES = {"float32": 4, "bfloat16": 2, "float16": 2}
_VARIABLE = 4
# What training computes again in the backward pass instead of keeping it: nothing; the outputs of
# the convolutions that widen a map inside a block; all that is inside a block.
REMAT = ("none", "expansion", "block")
# RMSprop with momentum, as the paper trains: a mean square and a momentum per weight.
SLOTS = 2


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one variant costs at one resolution.

    The first four are of one image. `inference_bytes` and `training_bytes` are the memory of a
    program that a compiler such as XLA has made: batch norm, activation, excitation and residual
    sum are computed inside the convolutions beside them, and leave no map of their own. A program
    that runs operation by operation keeps two to three and a half times these maps. Neither counts
    what a compiler adds to line maps up with the hardware, nor the workspace of a convolution:
    benchmarks/planner_memory.json has a compiler's own figures beside these. Of a built model
    they are None.

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
        inference_bytes: weights, and the most that is alive at once on the way through the
            network: a convolution's input and output, and inside a block with a skip the
            block's input, which waits for the sum. Of a whole batch.
        training_bytes: of a training step on a whole batch. Of the variables: weights, their
            moving average, gradients, and two numbers per weight of the optimiser (RMSprop with
            momentum). Of the maps: the backward pass goes from the logits to the pixels; where it
            stands, the outputs of all convolutions up to this block are still kept (they are
            batch norm's inputs, and what follows is computed from them again), the residual
            sums and the pixels, too; and it holds the gradients of a convolution's input and
            output, and that of the block's output where there is a skip. The most of that, over
            all blocks.
        routing_multiply_adds: of weighing the experts of CondConv, which `multiply_adds` leaves
            out; 0 for other networks.
        mixing_multiply_adds: of making each image's kernels of those of the experts, left out
            likewise. It is the same for images of any size.
    """

    params: int = 0
    trainable_params: int = 0
    multiply_adds: int = 0
    activation_bytes: int = 0
    # Not compared: a built model and its variant cost the same.
    inference_bytes: int | None = dataclasses.field(default=None, compare=False)
    training_bytes: int | None = dataclasses.field(default=None, compare=False)
    routing_multiply_adds: int = 0
    mixing_multiply_adds: int = 0


class Part(NamedTuple):
    """What the stem, a block or the head costs, for one image of one size.

    Attributes:
        params: all variables.
        trainable_params: those that training changes.
        multiply_adds: of its convolutions.
        outputs: numbers in the outputs of its convolutions that are kept for the backward pass.
        kept: numbers that the backward pass needs of it.
        in_flight: numbers that the backward pass holds besides, at most, while it is here.
        live: numbers that inference holds at most, while it is here.
        side: of its output, in pixels.
        routing: multiply-adds of weighing experts, besides.
        mixing: multiply-adds of mixing their kernels, besides.
    """

    params: int
    trainable_params: int
    multiply_adds: int
    outputs: int
    kept: int
    in_flight: int
    live: int
    side: int
    routing: int = 0
    mixing: int = 0


@functools.lru_cache(maxsize=1 << 16)
def count_part(
    convolutions: tuple[Convolution, ...], side: int, skip: bool = False, remat: str = "none"
) -> Part:
    """Counts what convolutions, one after the other, cost for one square image.

    Equal ones are counted once.

    Args:
        convolutions: the stem alone, those of a block, or the ending of a network.
        side: of their input, in pixels.
        skip: whether their input is added to their output.
        remat: one of `REMAT`; only blocks are computed again, and no block is one convolution.
    """
    reads = inputs = convolutions[0].input_filters * side**2
    multiply_adds = {False: 0, True: 0}  # by whether they weigh experts
    outputs, again, steps = 0, 0, []  # numbers that each convolution reads and makes
    for convolution in convolutions:
        makes = convolution.filters * convolution.output_side(side) ** 2
        multiply_adds[convolution.routes] += convolution.multiply_adds(side)
        outputs += makes
        if _is_computed_again(convolution, convolutions, remat):
            again += makes
        if convolution.pooled:  # it is beside the map, not in its way
            continue
        steps.append(reads + makes + convolution.mixed)
        if not convolution.shortcut:
            side = convolution.pooled_side(side)
            reads = convolution.filters * side**2
    steps = steps or [reads]  # of the mean over the map alone
    waiting = reads if skip else 0  # the sum is as large as what is added, and waits in its place
    pieces = _in_pieces(convolutions, inputs, remat)
    return Part(
        **_parameters(convolutions),
        multiply_adds=multiply_adds[False],
        outputs=outputs - again,
        kept=outputs - again + max(waiting, min(inputs, again)) + _sum_of("mixed", convolutions),
        # The input of the first convolution, and the output of the last, is what waits itself.
        in_flight=again - pieces + max(steps[-1], *(waiting + step for step in steps[:-1]), 0),
        live=max(steps[0], *(waiting + step for step in steps[1:]), 0),
        side=side,
        routing=multiply_adds[True],
        mixing=_sum_of("mixing", convolutions),
    )


def _parameters(convolutions):
    trainable = _sum_of("trainable_parameters", convolutions)
    return {"params": _sum_of("parameters", convolutions), "trainable_params": trainable}


def _sum_of(name, convolutions):
    return sum(getattr(convolution, name) for convolution in convolutions)


def _is_computed_again(convolution, convolutions, remat):
    """Whether the backward pass computes the output of one of these convolutions once more."""
    is_block = any(other.name.endswith("project_conv") for other in convolutions)
    if remat == "none" or not is_block or len(convolutions) == 1:
        return False
    if convolutions[0].routes:  # such blocks have no lean form
        return False
    widens = convolution is convolutions[0] and convolution.filters > convolution.input_filters
    return remat == "block" or (widens and not convolution.use_bias)


def _in_pieces(convolutions, inputs, remat):
    """Numbers of the widened map that, of a block computed once more, never exist as a whole."""
    first = convolutions[0]
    if remat != "block" or not _is_computed_again(first, convolutions, "expansion"):
        return 0
    if first.kernel_size > 1:  # it needs more than a pixel (layers/lean.py)
        return 0
    return inputs // first.input_filters * first.filters


def add_up(
    parts: Iterable[tuple[Part, int]], pixels: int, batch_size: int = 1, dtype: str = "float32"
) -> Cost:
    """Returns the cost of a network that consists of parts.

    Args:
        parts: pairs of a `Part` and how often it follows itself, from the stem to the head.
        pixels: numbers in one image.
        batch_size: images, for the memory.
        dtype: of the maps, a key of `DTYPES`.
    """
    params = trainable = multiply_adds = outputs = live = peak = routing = mixing = 0
    kept = pixels
    for part, count in parts:
        params += part.params * count
        trainable += part.trainable_params * count
        multiply_adds += part.multiply_adds * count
        routing += part.routing * count
        mixing += part.mixing * count
        outputs += part.outputs * count
        live = max(live, part.live)
        kept += part.kept * count
        peak = max(peak, kept + part.in_flight)
    maps = batch_size * DTYPES[dtype]
    state = _VARIABLE * (2 * params + (1 + SLOTS) * trainable)
    return Cost(
        params=params,
        trainable_params=trainable,
        multiply_adds=multiply_adds,
        activation_bytes=4 * outputs,
        inference_bytes=_VARIABLE * params + maps * live,
        training_bytes=state + maps * peak,
        routing_multiply_adds=routing,
        mixing_multiply_adds=mixing,
    )


def cost(
    variant: str | Variant,
    *,
    resolution: int | None = None,
    num_classes: int | None = None,
    batch_size: int = 1,
    dtype: str = "float32",
    remat: str = "none",
) -> Cost:
    """Counts what a variant costs, without TensorFlow.

    Args:
        variant: a name of `VARIANTS` or a `Variant`.
        resolution: side of the square RGB image in pixels; by default the variant's.
        num_classes: classes of the classifier; by default the variant's.
        batch_size: images in a batch, for `inference_bytes` and `training_bytes`.
        dtype: of the maps of activations, for the same: "float32", "bfloat16" or "float16".
            Variables are float32, as under Keras' mixed precision.
        remat: what training computes again, one of `REMAT`, for `activation_bytes` and
            `training_bytes`.

    Returns:
        A `Cost`.

    Raises:
        InputError: unknown name or dtype, a resolution below the network's `least_side`, no class,
            or no image.

    Example:
        >>> cost("b0").trainable_params
        5288548
    """
    network = resolve(variant, resolution=resolution, num_classes=num_classes)
    check_resolution(network.side, network.name, network.least_side)
    check_batch(batch_size, dtype)
    check_remat(remat)
    return add_up(_parts(network, remat), 3 * network.side**2, batch_size, dtype)


def check_batch(batch_size: int, dtype: str) -> None:
    """Raises InputError unless there is an image in the batch, and the dtype is a known one."""
    check_count("batch_size", batch_size)
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}.")


def check_remat(remat: str) -> None:
    """Raises InputError unless it is one of `REMAT`."""
    if remat not in REMAT:
        raise InputError(f"remat is {remat!r}; it must be one of {', '.join(map(repr, REMAT))}.")


def _parts(network: Network, remat: str):
    """Yields (part, 1) of the stem, each block and the head."""
    side = network.side
    for convolutions, skip in network.parts():
        part = count_part(convolutions, side, skip, remat)
        side = part.side
        yield part, 1
