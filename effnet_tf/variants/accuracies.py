"""How accurate are the networks that were published, according to their publishers?

Top-1 accuracy on the 50,000 validation images of ImageNet, in percent, by the name of the
weights (`model_fn(..., weights=NAME)`) and of the variant. Nothing here was measured by us.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """What a publisher says of one network.

    Attributes:
        top1: top-1 accuracy on ImageNet's validation images, in percent.
        source: where it is said; a README.md alone is that of the original code,
            tensorflow/tpu models/official/efficientnet, or of a folder there.
    """

    top1: float
    source: str


def _b(source, *top1):
    """B0, B1, ... in this order."""
    return {f"b{number}": Accuracy(value, source) for number, value in enumerate(top1)}


def _v2(**top1):
    """EfficientNetV2's, by what follows "v2-" in their names."""
    source = "google/automl efficientnetv2/README.md"
    return {f"v2-{name}": Accuracy(value, source) for name, value in top1.items()}


_LITE = {
    "lite0": Accuracy(75.1, "lite/README.md"),
    "lite1": Accuracy(76.7, "lite/README.md"),
    "lite2": Accuracy(77.6, "lite/README.md"),
}
# weights name -> variant -> what was published. keras.applications names no accuracy for its
# "imagenet" weights of B0 to B7.
ACCURACIES = {
    "imagenet": {
        **_LITE,
        "lite3": Accuracy(79.8, "lite/README.md"),
        "lite4": Accuracy(81.5, "lite/README.md"),
        "edgetpu-s": Accuracy(77.23, "edgetpu/README.md"),
        "edgetpu-m": Accuracy(78.69, "edgetpu/README.md"),
        "edgetpu-l": Accuracy(80.62, "edgetpu/README.md"),
        "condconv-b0-4e": Accuracy(77.8, "condconv/README.md"),
        "condconv-b0-8e": Accuracy(78.3, "condconv/README.md"),
        "condconv-b0-8e-depth": Accuracy(79.5, "condconv/README.md"),
        **_v2(b0=78.7, b1=79.8, b2=80.5, b3=82.1, s=83.9, m=85.2, l=85.7),
    },
    # Trained on ImageNet-21k, then on ImageNet; of B0 to B3 none was published.
    "imagenet21k-ft1k": _v2(s=84.9, m=86.2, l=86.9, xl=87.2),
    # The same weights converted; what they reach after that nobody has published.
    "lite-pytorch": _LITE,
    "baseline": _b("README.md", 76.7, 78.7, 79.8, 81.1, 82.5, 83.1),
    # Also in table 2 of the paper, arXiv 1905.11946.
    "autoaugment": _b("paper, table 2", 77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3),
    "randaugment": {"b5": Accuracy(83.7, "README.md"), "b7": Accuracy(84.7, "README.md")},
    "advprop": _b("README.md", 77.6, 79.6, 80.5, 81.9, 83.3, 84.3, 84.8, 85.2, 85.5),
    "noisy-student": {
        **_b("README.md", 78.8, 81.5, 82.4, 84.1, 85.3, 86.1, 86.4, 86.9),
        "l2": Accuracy(88.4, "README.md"),
    },
    # L2 trained and evaluated at 475 pixels.
    "noisy-student-475": {"l2": Accuracy(88.2, "README.md")},
}


def published_top1(weights: str, variant: str) -> float | None:
    """Returns the published top-1 accuracy in percent; None where none was published.

    Args:
        weights: name of published weights, a key of `ACCURACIES`.
        variant: name of a released variant.

    Example:
        >>> published_top1("autoaugment", "b3")
        81.6
    """
    found = ACCURACIES.get(weights, {}).get(variant)
    if found is None:
        return None
    return found.top1
