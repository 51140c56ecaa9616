"""What does a base cost once it is scaled by factors that somebody gives?"""

import argparse
import dataclasses
import math

from effnet_tf.errors import InputError
from effnet_tf.scaling.reporting import aligned
from effnet_tf.variants import Variant, cost, in_family, save_variant
from effnet_tf.variants.compound import MAX_SCALE


def scale(
    base: Variant, depth: float = 1.0, width: float = 1.0, resolution: float = 1.0
) -> Variant:
    """Returns a base scaled by factors on its depth, its width and the side of its images.

    Args:
        base: the row.
        depth: factor on the repeats of every stage, in (0, 100].
        width: factor on the channels, in (0, 100].
        resolution: factor on the side, in (0, 100]; the result is rounded to a pixel.

    Returns:
        A `Variant` named like "mobilenet_v1-d1.4-w1.2-r1.3"; the base itself at factors of 1.

    Raises:
        InputError: a factor is not in (0, 100].

    Example:
        >>> from effnet_tf.variants import VARIANTS
        >>> scale(VARIANTS["mobilenet_v2"], width=2, resolution=1.3).name
        'mobilenet_v2-w2-r1.3'
    """
    factors = {"depth": depth, "width": width, "resolution": resolution}
    name = base.name
    for axis, factor in factors.items():
        if not 0 < factor <= MAX_SCALE:  # also of a nan
            raise InputError(f"--{axis} is {factor:g}; it must be above 0 and at most {MAX_SCALE}.")
        if factor != 1:
            name += f"-{axis[0]}{factor:g}"
    return dataclasses.replace(
        base,
        name=name,
        depth_coefficient=base.depth_coefficient * depth,
        width_coefficient=base.width_coefficient * width,
        resolution=math.floor(base.resolution * resolution + 0.5),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `count`."""
    parser.add_argument("--base", default="b0", help="name of a variant, or a file of one")
    for axis, what in (("depth", "repeats"), ("width", "channels"), ("resolution", "the side")):
        parser.add_argument(
            f"--{axis}", type=float, default=1.0, metavar="FACTOR", help=f"on {what} (default 1)"
        )
    parser.add_argument(
        "--family", help="whose network of this name: timm's ResNet-50 has 4.09 G (default: ours)"
    )
    parser.add_argument("--num_classes", type=int, help="of the classifier (default: the base's)")
    parser.add_argument(
        "--save", metavar="FILE.json", help="write the network, for --variant of all programs"
    )


def count(options: argparse.Namespace) -> None:
    """Runs the program `count`."""
    base = in_family(options.base, options.family)
    row = scale(base, options.depth, options.width, options.resolution)
    if options.num_classes is not None:
        row = dataclasses.replace(row, num_classes=options.num_classes)
    print("\n".join(describe(row)))
    if options.save:
        save_variant(row, options.save)
        print(f"\nWrote {options.save}. Train it: --variant {options.save}")


def describe(row: Variant) -> list[str]:
    """Returns the lines of a table: what a variant costs, to the last digit."""
    exact = cost(row)
    header = ["network", "depth", "width", "pixels", "classes", "multiply-adds", "parameters"]
    cells = [row.name, f"{row.depth_coefficient:g}", f"{row.width_coefficient:g}"]
    cells += [f"{row.resolution}", f"{row.num_classes:,}"]
    return aligned([header, [*cells, f"{exact.multiply_adds:,}", f"{exact.params:,}"]])
