"""The program `classify`: what an exported file sees in images."""

import os

import numpy as np

from . import run


def add_program(programs):
    """Adds the program to the parser's subcommands."""
    text = "classify images with an exported file"
    parser = programs.add_parser("classify", help=text, description=text)
    parser.add_argument("file", help="a .tflite file or SavedModel written by this program")
    parser.add_argument("images", nargs="*", help="image files")
    run.add_options(parser, required=False)
    parser.add_argument("--count", type=run.count, default=12, metavar="N", help="with --workdir: "
                        "how many of the run's held-out images to classify (default 12)")
    parser.add_argument("--picture", help="PNG file to draw the images and answers to")
    parser.set_defaults(run=classify)


def classify(options):
    """Prints the five best classes of every image."""
    from effnet_tf import export, plots
    from effnet_tf.config import InputError
    if bool(options.images) == bool(options.workdir):
        raise InputError("Give either image files, or --workdir for held-out images of a run.")
    if options.picture and not os.path.isdir(os.path.dirname(options.picture) or "."):
        raise InputError(f"There is no folder for the picture '{options.picture}'.")
    about = run.read_report(options.file)
    names = about["class_names"]
    if options.images:
        images = run.from_files(options.images, about)
        titles, labels = options.images, [None] * len(images)
    else:
        images, labels = run.open_run(options).held_out(options.count)
        titles = [f"held-out {number}, really {names[label]}"
                  for number, label in enumerate(labels, start=1)]
    scores = export.load(options.file)(images)
    best = np.argsort(-scores, axis=-1)
    for title, row, order in zip(titles, scores, best):
        top = ", ".join(f"{names[index]} {row[index]:.1%}" for index in order[:5])
        print(f"{title}: {top}")
    right = [None if label is None else bool(label == order[0])
             for label, order in zip(labels, best)]
    if options.workdir:
        print(f"{sum(right)} of {len(right)} right")
    if options.picture:
        captions = [f"{names[order[0]]} ({row[order[0]]:.0%})"
                    + (f", is {names[label]}" if ok is False else "")
                    for row, order, label, ok in zip(scores, best, labels, right)]
        plots.predictions(list(images), captions, right, options.picture)
        print(f"Drew {options.picture}")
