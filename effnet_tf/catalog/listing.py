"""Which networks are there, and what does each cost, weigh and reach?"""

import dataclasses
import math
from collections.abc import Mapping

from effnet_tf.catalog.conditions import read_conditions
from effnet_tf.errors import InputError, nearest
from effnet_tf.variants import ACCURACIES, VARIANTS, Network, Variant, cost, resolve

# Bytes of a TFLite file for each number: a weight, and an output channel of a convolution. In
# float32 a channel has a bias. With weights of 8 bits it has a scale (4 bytes) and a zero point
# (8), too. Batch norm is folded. What describes the graph is left out: some 60 kB of B0.
TFLITE = {"none": (4, 4), "weights8": (1, 16)}


@dataclasses.dataclass(frozen=True)
class Listed:
    """One network of the list.

    Attributes:
        name: of the variant.
        pixels: side of its square images.
        params: parameters that training changes.
        multiply_adds: of one image.
        activation_bytes: of one image; see `effnet_tf.Cost`.
        tflite_float32_bytes: of its TFLite file in float32, estimated within 2 %.
        tflite_weights8_bytes: the same with weights of 8 bits; None where there is no such file,
            because kernels are mixed of experts (CondConv).
        top1: {name of published weights: top-1 accuracy on ImageNet in percent, as their
            publishers say}, the best first; empty where nothing was published.
    """

    name: str
    pixels: int
    params: int
    multiply_adds: int
    activation_bytes: int
    tflite_float32_bytes: int
    tflite_weights8_bytes: int | None
    top1: Mapping[str, float]

    @property
    def best_top1(self) -> float | None:
        """The best of `top1`; None where nothing was published."""
        return max(self.top1.values(), default=None)


# What may be a condition, or sorted by: the attribute of `Listed`.
FIGURES = {
    "pixels": "pixels",
    "params": "params",
    "multiply_adds": "multiply_adds",
    "activations": "activation_bytes",
    "tflite": "tflite_weights8_bytes",
    "top1": "best_top1",
}


def list_models(
    conditions: Mapping[str, str] | None = None,
    *,
    sort: str | None = None,
    weights: str | None = None,
) -> list[Listed]:
    """Lists the variants, without TensorFlow, in milliseconds.

    Args:
        conditions: {figure: what it must be}, such as {"params": "<6M", "top1": ">=77"}; without
            a sign, at most. Figures are pixels, params, multiply_adds, activations (bytes),
            tflite (bytes with weights of 8 bits) and top1 (percent). Numbers may end with k, M, G,
            Ki, Mi or Gi. A network without a published accuracy fails every condition on top1,
            and CondConv, of which there is no file of 8 bits, every one on tflite.
        sort: a figure: the smallest first, of top1 the best; with "-" before it, the other way
            round. None: in the order of the families.
        weights: name of published weights: only their networks, and only their top-1 accuracy.

    Returns:
        A `Listed` for each.

    Raises:
        InputError: an unknown figure or name of weights, or a condition that is none.

    Example:
        >>> [each.name for each in list_models({"params": "<6M"}, sort="top1")][0]
        'b0'
    """
    wanted = read_conditions(conditions or {}, FIGURES)
    found = [_listed(variant, weights) for variant in VARIANTS.values()]
    if weights is not None:
        _check(weights, ACCURACIES, "published weights")
        found = [each for each in found if each.top1]
    for name, condition in wanted.items():
        found = [each for each in found if condition.holds(_figure(each, name))]
    if sort is not None:
        return _sorted(found, sort)
    return found


def _check(name, known, what):
    if name not in known:
        raise InputError(f"There are no {what} '{name}'. {nearest(name, known)}")


def _figure(each, name):
    return getattr(each, FIGURES[name])


def _sorted(found, sort):
    """Networks whose figure nobody knows come last, whatever the order."""
    name = sort.removeprefix("-")
    _check(name, FIGURES, "figures")
    known = [each for each in found if _figure(each, name) is not None]
    unknown = [each for each in found if _figure(each, name) is None]
    downwards = (name == "top1") != sort.startswith("-")
    return sorted(known, key=lambda each: _figure(each, name), reverse=downwards) + unknown


def _listed(variant: Variant, weights: str | None) -> Listed:
    counted, network = cost(variant), resolve(variant)
    return Listed(
        name=variant.name,
        pixels=variant.resolution,
        params=counted.trainable_params,
        multiply_adds=counted.multiply_adds,
        activation_bytes=counted.activation_bytes,
        tflite_float32_bytes=tflite_bytes(network, "none"),
        tflite_weights8_bytes=_weights8_bytes(network),
        top1=_published(variant.name, weights),
    )


def _published(variant, weights):
    found = {
        name: rows[variant].top1
        for name, rows in ACCURACIES.items()
        if variant in rows and weights in (None, name)
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _weights8_bytes(network):
    """None where `export/mixing.py` refuses: a mixed kernel is no constant of 8 bits."""
    if any(block.experts for block in network.blocks):
        return None
    return tflite_bytes(network, "weights8")


def tflite_bytes(network: Network, quantize: str) -> int:
    """Returns about how many bytes the TFLite file of a network has.

    Args:
        network: of `variants.resolve`.
        quantize: a key of `TFLITE`.
    """
    of_weight, of_channel = TFLITE[quantize]
    total = 0
    for convolutions, _ in network.parts():
        for each in convolutions:
            total += of_weight * math.prod(each.kernel_shape) + of_channel * each.filters
    return total
