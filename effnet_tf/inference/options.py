"""Which options say what network is asked? No TensorFlow."""

import argparse
from typing import Any

IMAGENET = "imagenet"  # as a file of class names: they come with the package
METHODS = ("grad_cam", "integrated_gradients")  # of explain
# What WHAT may be, in the help of all programs.
WHAT = (
    "a run directory; a .tflite, .onnx or .keras file or SavedModel, written by effnet_tf or "
    "anything else; or, with --variant, weights of any known origin"
)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Adds WHAT, and what else can be said of it."""
    parser.add_argument("what", metavar="WHAT", help=WHAT)
    group = parser.add_argument_group("the network")
    group.add_argument(
        "--variant", help="of weights: their network, a name of `models` or a file of one"
    )
    group.add_argument(
        "--labels",
        metavar="FILE",
        help="class names of a network that has none, in a file with one per line; or "
        f"'{IMAGENET}', for the names of its 1,000 classes",
    )
    group.add_argument(
        "--crop",
        type=crop,
        metavar="PIXELS|FRACTION",
        help="of a network that does not say how its images are cut: PIXELS: to the middle size / "
        "(size + PIXELS) of the short side, 0: not at all; or that FRACTION itself, such as 0.875",
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="open a SavedModel that does more than compute on tensors, such as write files; "
        "`export inspect` lists it",
    )


def network_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `subjects.Options` that a command line means."""
    return {name: getattr(options, name) for name in ("variant", "labels", "crop", "trust")}


def crop(text: str) -> int | float:
    """The argparse type of --crop: pixels, an int, or a fraction of the short side, a float."""
    if text.isdecimal():
        return int(text)
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0.01 <= fraction <= 1:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a crop: give the padding in whole pixels (0: the whole image), or "
            "the fraction of the short side, such as 0.875 or 1.0"
        )
    return fraction


def count(text: str) -> int:
    """The argparse type of a number of images: a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of images (1 or more)")
    return int(text)


def fraction(text: str) -> float:
    """The argparse type of a share of images, in [0, 1]."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a fraction: give a number from 0 to 1")
    return share
