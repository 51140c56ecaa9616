"""Says what a network sees in image files, however many.

    python -m effnet_tf predict runs/photos new1.jpg new2.jpg
    python -m effnet_tf predict model.tflite new_photos --csv answers.csv
    python -m effnet_tf predict runs/photos "new/**/*.jpg" --top 1 --picture sheet.png
    find /disk -name "*.jpg" | python -m effnet_tf predict model.onnx - --json -

A path is a file, a folder (with all that is below it), a pattern in quotes, or - for a list on
standard input, a path in each line. An image that cannot be used is one line with its reason, and
does not stop the others. Exit codes: 0 done; 2 bad input, or some of the images could not be used;
74 a file cannot be written or read; 130 interrupted by hand.
"""

import argparse
import contextlib
import sys
from typing import Any

from effnet_tf import extras, isolated, programs
from effnet_tf.errors import InputError
from effnet_tf.inference import apart
from effnet_tf.inference import options as command_line_options


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf predict", __doc__)
    command_line_options.add_network(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, pattern, or -")
    parser.add_argument(
        "--top",
        type=command_line_options.count,
        metavar="N",
        help="classes of each image (default 5; of a network that gives several names to an image, "
        "all of them)",
    )
    parser.add_argument("--csv", metavar="FILE", help="write a row for each image; -: print them")
    parser.add_argument(
        "--json", metavar="FILE", help="write a JSON object per line for each; -: print them"
    )
    parser.add_argument(
        "--picture", metavar="FILE.png", help="draw the first images with their answers"
    )
    parser.add_argument(
        "--batch_size",
        type=command_line_options.count,
        default=16,
        help="images that are answered together (default 16)",
    )
    return parser.parse_args(argv[1:])


def main(options: argparse.Namespace) -> None:
    """Predicts, in a process of its own, which a damaged file may kill."""
    files = [None if path == "-" else path for path in (options.csv, options.json)]
    programs.on_interruption(programs.written_files(*files, options.picture))
    extras.require("Predicting", "tensorflow", "keras")
    _check(options)
    names = ("what", "paths", "top", "csv", "json", "picture", "batch_size")
    arguments = {name: getattr(options, name) for name in names}
    arguments["network"] = command_line_options.network_of(options)
    # On a terminal the answers themselves show how far it is.
    arguments["bar"] = bool(options.csv or options.json or not sys.stdout.isatty())
    apart.run(work, arguments, reads="-" in options.paths)


def _check(options):
    if options.csv == options.json == "-":
        raise InputError("Only one of --csv and --json can be printed: give the other a file.")
    if options.picture:
        apart.check_picture(options.picture)


def work(
    what: str,
    paths: list[str],
    top: int | None,
    csv: str | None,
    json: str | None,
    picture: str | None,
    batch_size: int,
    network: dict[str, Any],
    bar: bool,
) -> None:
    """Predicts, prints and writes; see the program's options.

    Raises:
        InputError: the network cannot be used; or, after all answers, some images could not.
    """
    from effnet_tf import progress

    with progress.starting(isolated.progress.terminal):
        from effnet_tf.inference import finding, predicting, subjects, tally
    terminal, printed = isolated.progress.terminal or sys.stderr, sys.stdout
    kept = tally.Tally(picture)
    with contextlib.ExitStack() as stack:
        if "-" in (csv, json):  # standard output is for programs then
            stack.enter_context(contextlib.redirect_stdout(terminal))
        subject = subjects.open_subject(what, subjects.Options(**network))
        finder = finding.Finder(sys.stdin)
        with contextlib.ExitStack() as files:
            writers = [kept.add, *_writers(files, printed, csv, json, subject, top)]
            total = finding.count(paths)
            shown = files.enter_context(progress.bar("Predicting", total, file=terminal, shown=bar))
            for prediction in predicting.answers(subject, finder.find(paths), top, batch_size):
                for write in writers:
                    write(prediction)
                shown.update()
        kept.finish(finder.report(), [name for name in (csv, json) if name not in (None, "-")])


def _writers(files, printed, csv, json, subject, top):
    """Returns what writes each prediction; files appear when `files` is closed."""
    from effnet_tf.inference import predicting, writing

    found = []
    if csv:
        file = files.enter_context(writing.opened(csv, printed))
        if subject.thresholds is None:
            found.append(writing.as_csv(file, min(top or predicting.TOP, subject.classes)))
        else:
            found.append(writing.as_csv_of_several(file, subject.class_names))
    if json:
        found.append(writing.as_json(files.enter_context(writing.opened(json, printed))))
    return found or [writing.for_people]
