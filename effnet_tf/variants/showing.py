"""What does `VARIANTS` look like at a prompt and in a notebook?"""

from collections.abc import Mapping

from effnet_tf.variants.accuracies import ACCURACIES
from effnet_tf.variants.counting import cost
from effnet_tf.variants.rows import Variant
from effnet_tf.variants.table import VARIANTS

_HEADER = ["variant", "pixels", "parameters", "multiply-adds", "published top-1", "of the weights"]


def rows(variants: Mapping[str, Variant]) -> list[list[str]]:
    """Returns the header and a row of text for each variant: what it costs and reaches.

    Accuracies are those that the publishers of weights name, in percent on ImageNet, the best.
    """
    return [_HEADER, *(_row(name, variant) for name, variant in variants.items())]


def _row(name, variant):
    costs = cost(variant)
    top1, weights = _best(name)
    return [
        name,
        str(variant.resolution),
        f"{costs.trainable_params / 1e6:.1f} M",
        f"{costs.multiply_adds / 1e9:.2f} G",
        top1,
        weights,
    ]


def _best(name):
    """The best published accuracy and its weights; "" twice where nothing was published."""
    found = [(every[name].top1, weights) for weights, every in ACCURACIES.items() if name in every]
    if not found:
        return "", ""
    top1, weights = max(found, key=lambda pair: pair[0])  # of equal ones the first
    return f"{top1:.1f} %", weights


VARIANTS.rows = rows  # counting needs networks, and these the table itself
