"""Lists the networks: what each costs, weighs and reaches.

    python -m effnet_tf models
    python -m effnet_tf models --params "<6M" --sort top1
    python -m effnet_tf models b3
    python -m effnet_tf models --plot family.png

Conditions are numbers with k, M, G, Ki, Mi or Gi, and <, <=, >, >= or = before them; without a
sign, at most. Put them in quotes, because < and > mean something to a shell. No TensorFlow.
"""

import argparse
import dataclasses
import json

from effnet_tf.catalog import listing, telling
from effnet_tf.errors import InputError
from effnet_tf.variants import ACCURACIES, find_variant

CONDITIONS = {
    "pixels": "side of the images",
    "params": "parameters that training changes",
    "multiply_adds": "of one image",
    "activations": "bytes, of one image",
    "tflite": "bytes of a TFLite file with weights of 8 bits, estimated",
    "top1": "published top-1 accuracy in percent",
}


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf models", __doc__)
    parser.add_argument("network", nargs="?", help="show the parts of this one")
    group = parser.add_argument_group("which networks")
    for name, text in CONDITIONS.items():
        group.add_argument(f"--{name}", metavar="CONDITION", help=text)
    group.add_argument("--weights", choices=ACCURACIES, help="only those with these weights")
    figures = [*listing.FIGURES, *(f"-{name}" for name in listing.FIGURES)]
    parser.add_argument(
        "--sort",
        choices=figures,
        metavar="FIGURE",
        help=f"{', '.join(listing.FIGURES)}: the smallest first, of top1 the best; --sort=-params: "
        "the largest",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--plot", metavar="FILE.png", help="draw accuracy over multiply-adds")
    return parser.parse_args(argv[1:])


def main(options: argparse.Namespace) -> None:
    """Prints, and draws, what was asked for."""
    found = _chosen(options)
    if options.json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    elif options.network:
        print("\n".join(telling.describe_network(found[0])))
    else:
        print("\n".join(telling.describe_list(found)))
    if options.plot:
        from effnet_tf.scaling import pictures

        pictures.draw([], options.plot)
        if not options.json:
            print(f"\nDrew {options.plot}")


def _chosen(options):
    """Returns the networks that the command line asks for."""
    given = {name: getattr(options, name) for name in CONDITIONS}
    conditions = {name: text for name, text in given.items() if text is not None}
    if options.network is None:
        found = listing.list_models(conditions, sort=options.sort, weights=options.weights)
        if not found:
            raise InputError("No network meets these conditions: loosen one of them.")
        return found
    if conditions or options.sort or options.weights:
        raise InputError("Give either a network, or conditions on all of them.")
    name = find_variant(options.network).name
    found = [each for each in listing.list_models() if each.name == name]
    if not found:
        raise InputError(
            f"'{options.network}' is a file of a network of your own; the list has the released "
            "ones."
        )
    return found
