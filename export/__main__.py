"""Writes a trained classifier to a file, verified, and runs such files.

python -m export saved_model --workdir runs/digits --out runs/digits/saved_model
python -m export tflite --workdir runs/digits --out runs/digits/digits.tflite
python -m export onnx --model mine.keras --labels names.txt --out mine.onnx
python -m export classify runs/digits/digits.tflite photo.png another.jpg
python -m export inspect runs/digits/digits.tflite
python -m export bench runs/digits/digits.tflite another.tflite
"""

import argparse
from typing import NoReturn

from effnet_tf import extras, programs


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line; `run` is the chosen program."""
    from effnet_tf import command_line

    # Relative to each other, absolute to the library: the wheel calls this package
    # effnet_export.
    from . import bench, classify, convert, inspect

    parser = command_line.parser("python -m export", __doc__)
    parser.set_defaults(in_a_child=False)
    subparsers = parser.add_subparsers(required=True, metavar="PROGRAM")
    convert.add_programs(subparsers)
    classify.add_program(subparsers)
    inspect.add_program(subparsers)
    bench.add_program(subparsers)
    return parser.parse_args(argv[1:])


def main(options: argparse.Namespace) -> None:
    """Runs the program; bad input is exit code 2, a file that failed its check 1."""
    programs.on_interruption(_last_words(options))
    from effnet_tf import progress

    with programs.nothing_to_undo():
        extras.require("This program", "tensorflow", "keras")
        if not options.in_a_child:
            with progress.starting():
                from effnet_tf.export import writing  # noqa: F401  (it takes seconds)
    options.run(options)


def _last_words(options):
    """Returns the function that says what an interruption leaves of what is written."""
    out, picture = getattr(options, "out", None), getattr(options, "picture", None)
    path = out or picture
    if not path:
        return lambda: "this program writes nothing"
    before = programs.state_of(path)

    def last_words():
        if programs.state_of(path) == before:
            return f"nothing was written to {path}"
        if out:
            return f"{out} had been written and is whole; the report beside it may be missing"
        return f"{picture} had been drawn and is whole"

    return last_words


def console() -> NoReturn:
    """The command `effnet-export`."""
    programs.run(main, parse)


if __name__ == "__main__":
    console()
