"""Writes a trained classifier to a file, verified, and runs such files.

    python -m export saved_model --workdir runs/digits --out runs/digits/saved_model
    python -m export tflite --workdir runs/digits --out runs/digits/digits.tflite
    python -m export onnx --model mine.keras --labels names.txt --out mine.onnx
    python -m export classify runs/digits/digits.tflite photo.png another.jpg
    python -m export inspect runs/digits/digits.tflite
    python -m export bench runs/digits/digits.tflite another.tflite
"""

import argparse
import os
import signal
import sys

from absl import app, logging
from absl.flags import argparse_flags

from effnet_tf import extras
from effnet_tf.errors import InputError

# Relative to each other, absolute to the library: the wheel calls this package
# effnet_export.
from . import bench, classify, convert, inspect


def parse(argv):
    """Returns the parsed command line; `run` is the chosen program."""
    parser = argparse_flags.ArgumentParser(
        prog=_program(), description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    programs = parser.add_subparsers(required=True, metavar="PROGRAM")
    convert.add_programs(programs)
    classify.add_program(programs)
    inspect.add_program(programs)
    bench.add_program(programs)
    return parser.parse_args(argv[1:])


def _program():
    """How this was called, for the usage line."""
    name = os.path.basename(sys.argv[0])
    return name if name.startswith("effnet-export") else "python -m export"


def main(options):
    """Runs the program; bad input is exit code 2, a file that failed its check 1."""
    logging.set_verbosity(logging.WARNING)
    # A request to end is an exception like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        extras.require("This program", "tensorflow", "keras")
        options.run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit("Interrupted: nothing was written.")


def console():
    """The command `effnet-export`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    console()
