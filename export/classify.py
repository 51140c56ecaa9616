"""The program `classify`: what an exported file sees in images."""

import argparse
from collections.abc import Sequence
from typing import Any

from effnet_tf import isolated
from effnet_tf.errors import InputError
from effnet_tf.inference import apart

from . import answers, opened
from . import options as command_line

AT_ONCE = 8  # images that are answered together: answers appear while others are computed


def add_program(programs: Any) -> None:
    """Adds the program to the parser's subcommands."""
    text = "classify images with an exported file"
    parser = programs.add_parser(
        "classify",
        help=text,
        description=text + "; exit code 2 if one of the images cannot be "
        "used: all others are answered",
    )
    parser.add_argument(
        "file",
        help="a .tflite, .onnx or .keras file or SavedModel, written by this program or any other",
    )
    parser.add_argument("images", nargs="*", help="image files, or folders of them")
    command_line.add_run(parser)
    _add_options(parser)
    parser.set_defaults(run=classify, in_a_child=True)


def _add_options(parser):
    parser.add_argument(
        "--count",
        type=command_line.count,
        default=12,
        metavar="N",
        help="with --workdir: how many of the run's held-out images to classify (default 12)",
    )
    command_line.add_labels(parser, "class names for a file that holds none")
    parser.add_argument("--picture", help="PNG file to draw the images and answers to")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open a SavedModel that does more "
        "than compute on tensors, such as write files; inspect lists it",
    )


def classify(options: argparse.Namespace) -> None:
    """Prints the five best classes of every image.

    In a process of its own, which a damaged file may kill.
    """
    if bool(options.images) == bool(options.workdir):
        raise InputError("Give either image files, or --workdir for held-out images of a run.")
    if options.picture:
        apart.check_picture(options.picture)
    names = ("file", "images", "workdir", "data_dir", "count", "labels", "picture", "trust")
    arguments = {name: getattr(options, name) for name in names}
    try:
        isolated.call((answer, arguments), shown=True, silence=isolated.SILENCE)
    except isolated.WorkerError as error:
        raise InputError(f"'{options.file}' cannot be used: {error.reason}.") from error


def answer(
    file: str,
    images: Sequence[str] = (),
    workdir: str | None = None,
    data_dir: str | None = None,
    count: int = 12,
    labels: str | None = None,
    picture: str | None = None,
    trust: bool = False,
) -> None:
    """Opens a file, prints its answers and draws them; see the program's options.

    Raises:
        InputError: the file cannot be used; or, after all answers, some images could not.
    """
    from effnet_tf import progress

    with progress.starting(isolated.progress.terminal):
        from effnet_tf.inference import finding, photos, predicting, subjects
    subject = subjects.open_subject(file, subjects.Options(labels=labels, trust=trust))
    if subject.thresholds is not None:
        raise InputError(
            f"'{file}' gives an image several names, and classify tells the best class: use "
            "python -m effnet_tf predict."
        )
    names, finder = subject.class_names, finding.Finder()
    if workdir:
        run = opened.open_run(workdir, data_dir)
        names = names or run.class_names
        examples = _held_out(run, count, subject.layout)
    else:
        examples = photos.examples(finder.find(images), subject)
    shown = answers.Answers(file, names)
    for group in predicting.groups(examples, AT_ONCE):
        shown.add(group, subject.scores)
    for line in finder.report():
        print(line)
    shown.finish(picture)


def _held_out(run, count, layout):
    from effnet_tf.inference import photos

    images, labels = run.images(count)
    pixels = layout.from_rgb(images)
    for number, (image, label) in enumerate(zip(pixels, labels), start=1):
        name = run.class_names[label]
        yield photos.Example(f"held-out {number}, really {name}", image, name)
