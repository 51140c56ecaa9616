"""Draws which parts of images speak for a class.

    python -m effnet_tf explain runs/photos new1.jpg new2.jpg --out explained
    python -m effnet_tf explain runs/photos new_photos --top 3 --out sheet.png
    python -m effnet_tf explain lite-pytorch --variant lite0 --labels imagenet cat.jpg \\
        --class tabby --method integrated_gradients --out cat.png

A path is a file, a folder (with all that is below it), a pattern in quotes, or - for a list on
standard input. Colours over the image go from blue, nothing, to red, what speaks the most for the
class. An image that cannot be used is one line with its reason, and does not stop the others. Exit
codes: 0 done; 2 bad input, or some of the images could not be used; 74 a file cannot be written or
read; 130 interrupted by hand.
"""

import argparse
import os
import sys
from typing import Any

from effnet_tf import extras, isolated, programs
from effnet_tf.errors import InputError, printable
from effnet_tf.inference import apart
from effnet_tf.inference import options as command_line_options


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf explain", __doc__)
    command_line_options.add_network(parser)
    parser.add_argument("paths", nargs="+", metavar="IMAGE", help="file, folder, pattern, or -")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FOLDER|FILE.png",
        help="a folder, for a picture of each image; or one picture of the first images",
    )
    _add_what(parser)
    parser.add_argument(
        "--batch_size",
        type=command_line_options.count,
        default=8,
        help="images that are computed together (default 8)",
    )
    return parser.parse_args(argv[1:])


def _add_what(parser):
    """Adds which classes are explained, and how."""
    parser.add_argument(
        "--top",
        type=command_line_options.count,
        default=1,
        metavar="N",
        help="how many of the best classes of each image (default 1)",
    )
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME",
        help="explain this class instead, however probable; may be given several times",
    )
    parser.add_argument(
        "--method",
        choices=command_line_options.METHODS,
        default=command_line_options.METHODS[0],
        help="how (default %(default)s)",
    )


def main(options: argparse.Namespace) -> None:
    """Explains, in a process of its own, which a damaged file may kill."""
    programs.on_interruption(programs.written_files(options.out))
    extras.require("Explaining", "tensorflow", "keras")
    extras.load("matplotlib.figure", "Explaining, which draws pictures,")
    _check_place(options.out)
    names = ("what", "paths", "out", "top", "classes", "method", "batch_size")
    arguments = {name: getattr(options, name) for name in names}
    arguments["network"] = command_line_options.network_of(options)
    apart.run(work, arguments, reads="-" in options.paths)


def _check_place(out):
    if not os.path.isdir(os.path.dirname(os.path.abspath(out))):
        raise InputError(f"There is no folder for '{out}': make it, or choose another place.")
    if os.path.splitext(out)[1].lower() != ".png" and os.path.isfile(out):
        raise InputError(f"--out '{out}' is a file: give a folder, or a name that ends in .png.")


def work(
    what: str,
    paths: list[str],
    out: str,
    top: int,
    classes: list[str],
    method: str,
    batch_size: int,
    network: dict[str, Any],
) -> None:
    """Explains, prints and draws; see the program's options.

    Raises:
        InputError: the network cannot be used; or, after all pictures, some images could not.
    """
    from effnet_tf import progress

    with progress.starting(isolated.progress.terminal):
        from effnet_tf.inference import explaining, finding, sheets, subjects, tally
    subject = subjects.open_subject(what, subjects.Options(**network))
    explainer = explaining.Explainer(subject, top, classes, method)
    finder, kept = finding.Finder(sys.stdin), tally.Tally()
    place = sheets.place(out, explainer.count, method)
    for explanation in explainer.run(finder.find(paths), batch_size):
        kept.add(explanation)
        drawn = place.add(explanation)
        print(_line(explanation, drawn))
        if place.is_full:
            break
    for line in [*finder.report(), *place.finish()]:
        print(line)
    kept.check()


def _line(explanation, drawn):
    image = printable(explanation.image)
    if explanation.fault is not None:
        return f"{image}: cannot be used: {printable(explanation.fault)}"
    pairs = zip(explanation.classes, explanation.probabilities)
    said = ", ".join(f"{printable(name)} {chance:.1%}" for name, chance in pairs)
    if drawn:
        return f"{image}: {said}: drew {drawn}"
    return f"{image}: {said}"
