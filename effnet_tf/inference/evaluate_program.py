"""Evaluates a network on labelled images: how often it is right, about what, and how sure.

    python -m effnet_tf evaluate runs/photos
    python -m effnet_tf evaluate runs/photos --data new_photos --out report
    python -m effnet_tf evaluate model.tflite --data test.csv
    python -m effnet_tf evaluate model.onnx --data cifar10:test --data_dir tfds
    python -m effnet_tf evaluate lite-pytorch --variant lite0 --labels imagenet --data val

Classes are matched by their names. Every image counts once; one that cannot be used is named, and
counts as wrong. A run is evaluated as its training does it: the same number for the same images.
Exit codes: 0 done; 2 bad input; 74 a file cannot be written or read; 130 interrupted by hand.
"""

import argparse
import os
from typing import Any

from effnet_tf import extras, isolated, programs
from effnet_tf.inference import apart
from effnet_tf.inference import options as command_line_options

DATA = (
    "a folder with one folder of images per class, or with parts such as val/; a .csv or .jsonl "
    "table of paths and labels; a folder of TFRecord files; NAME:SPLIT of a TFDS data set; or a "
    "run, for its held-out images. Default: WHAT, if it is a run"
)


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf evaluate", __doc__)
    command_line_options.add_network(parser)
    _add_images(parser.add_argument_group("the images"))
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="write report.html, report.json, predictions.csv and pictures there",
    )
    return parser.parse_args(argv[1:])


def _add_images(group):
    group.add_argument("--data", metavar="IMAGES", help=DATA)
    group.add_argument(
        "--split",
        help="which part of a folder, table or TFRecords; default: what there is to evaluate on "
        "(val, test and so on), else all of it",
    )
    group.add_argument(
        "--data_dir", help="where TFDS data sets lie, or the images of a run lie now"
    )
    group.add_argument(
        "--num_classes", type=int, help="confirms that so many folders or labels are classes"
    )
    group.add_argument(
        "--first_label", type=int, default=1, help="of the classes in TFRecord files (default 1)"
    )
    group.add_argument(
        "--max_bad_fraction",
        type=command_line_options.fraction,
        metavar="FRACTION",
        help="of the images that may be bad (default: 0.001, or what the run allows)",
    )
    group.add_argument(
        "--batch_size",
        type=command_line_options.count,
        default=32,
        help="images that are answered together (default 32); it changes no number",
    )


_IMAGES = ("split", "data_dir", "num_classes", "first_label", "batch_size", "max_bad_fraction")


def main(options: argparse.Namespace) -> None:
    """Evaluates and reports, in a process of its own, which a damaged file may kill."""
    programs.on_interruption(_last_words(options.out))
    extras.require("Evaluating", "tensorflow", "keras")
    arguments = {
        "what": options.what,
        "where": options.data,
        "network": command_line_options.network_of(options),
        "images": {name: getattr(options, name) for name in _IMAGES},
        "out": options.out,
    }
    apart.run(work, arguments)


def _last_words(out):
    """Returns the function that says what an interruption leaves of --out."""
    if out is None:
        return lambda: "this program writes nothing without --out"
    first = os.path.join(out, "report.json")
    before = programs.state_of(first)

    def last_words():
        if programs.state_of(first) == before:
            return f"nothing was written to {out}"
        return f"{out} may lack files of the report; those that are there are whole"

    return last_words


def work(
    what: str, where: str | None, network: dict[str, Any], images: dict[str, Any], out: str | None
) -> None:
    """Evaluates, prints and writes; see the program's options."""
    from effnet_tf import progress

    with progress.starting(isolated.progress.terminal):
        from effnet_tf.inference import evaluating, multi_telling, report, subjects, telling
    if out is not None:
        report.check_folder(out)
    found = evaluating.evaluate(
        what, where, options=subjects.Options(**network), file=isolated.progress.terminal, **images
    )
    print(f"Network: {found.subject.name}, of {found.subject.size[0]} pixels")
    print(f"Images: {found.source.name}")
    if isinstance(found, evaluating.MultiEvaluation):
        print("\n".join(multi_telling.lines(found)))
    else:
        print("\n".join(telling.lines(found)))
    if out is not None:
        written = report.write(found, out)
        print(f"\nWrote {', '.join(written)} to {out}")
