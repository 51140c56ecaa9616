"""Trains an EfficientNet on a Cloud TPU, GPUs or the CPU, with the same command.

    python train_tpu.py --recipe digits --workdir runs/digits
    python train_tpu.py --dataset folder --data_dir photos --workdir runs/photos
    python train_tpu.py --variant b0 --dataset imagenet2012 --data_dir gs://BUCKET/tfds \\
        --tpu local --workdir gs://BUCKET/b0

The same command again resumes an interrupted run.
"""

import argparse
import os
import sys

from absl import app, logging
from absl.flags import argparse_flags

from effnet_tf import recipe as recipe_lib
from effnet_tf.config import InputError


def parse(argv):
    """Returns the parsed command line."""
    parser = argparse_flags.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="directory of the run, local or gs://; "
                        "it holds checkpoints, metrics and recipe.json")
    parser.add_argument("--tpu", help="name or address of a Cloud TPU, 'local' on a TPU VM; "
                        "without it GPUs are used, or else the CPU")
    recipe_lib.add_options(parser)
    return parser.parse_args(argv[1:])


def main(options):
    """Trains as `options` say; bad input is one sentence and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    try:
        recipe = recipe_lib.from_options(options)
        recipe.resolved_variant()  # before TensorFlow starts, which takes seconds
        from effnet_tf import train
        train.run(recipe, options.workdir, train.choose_strategy(options.tpu))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last checkpoint, if any.",
              file=sys.stderr)
        sys.exit(130)


def console():
    """The command `effnet-train`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    console()
