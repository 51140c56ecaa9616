"""Trains an EfficientNet on a Cloud TPU, GPUs or the CPU, with the same command.

    python train_tpu.py --recipe digits --workdir runs/digits
    python train_tpu.py --dataset folder --data_dir photos --workdir runs/photos
    python train_tpu.py --variant b0 --dataset imagenet2012 --data_dir gs://BUCKET/tfds \\
        --tpu local --workdir gs://BUCKET/b0

The same command again resumes an interrupted run; with --dry_run it says what it would cost,
and tries everything out.

Exit codes: 0 done; 1 a fault of the program; 2 bad input; 3 training has diverged; 74 a
file cannot be written; 75 the machine was about to be taken away (SIGTERM, or the notice
of Google Cloud), the state is saved: run the command again; 130 interrupted by hand.
"""

import argparse
import os
import sys

from absl import app, logging
from absl.flags import argparse_flags

from effnet_tf import extras, recipe as recipe_lib
from effnet_tf.errors import InputError


# Exit codes, besides 0, argparse's 2 and Python's 1; 74 and 75 are sysexits.h's.
BAD_INPUT, DIVERGED, CANNOT_SAVE, PREEMPTED, INTERRUPTED = 2, 3, 74, 75, 130
STRATEGIES = ("auto", "tpu", "mirrored", "multiworker", "cpu")  # strategy.py needs TensorFlow


def fail(error, code):
    """Ends the program with a sentence."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def parse(argv):
    """Returns the parsed command line."""
    parser = argparse_flags.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", help="directory of the run, local or gs://; it holds "
                        "checkpoints, metrics and recipe.json")
    parser.add_argument("--dry_run", action="store_true", help="print what the run would cost, and "
                        "try the whole path on small images of noise, on 8 virtual devices")
    parser.add_argument("--strategy", default="auto", choices=STRATEGIES,
                        help="tpu; mirrored: all GPUs; multiworker: the machines of TF_CONFIG; "
                        "cpu; auto: what there is (printed)")
    parser.add_argument("--tpu", help="name or address of a Cloud TPU, 'local' on a TPU VM")
    parser.add_argument("--virtual_devices", type=int, metavar="N",
                        help="with --strategy mirrored: so many devices made of the CPU, to try "
                        "several replicas out")
    recipe_lib.add_options(parser)
    options = parser.parse_args(argv[1:])
    if not options.workdir and not options.dry_run:
        parser.error("give --workdir, where the run is to be kept (or --dry_run)")
    return options


def main(options):
    """Trains as `options` say; bad input is one sentence and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    try:
        recipe = recipe_lib.from_options(options)
        recipe.resolved_variant()  # before TensorFlow starts, which takes seconds
        extras.require("Training", "tensorflow", "keras")
        from effnet_tf import checkpoints, dryrun, interruption, train
    except InputError as error:
        fail(error, BAD_INPUT)
    try:
        if options.dry_run:
            dryrun.dry_run(recipe, train.choose_strategy("mirrored", None, dryrun.DEVICES))
            return
        strategy = train.choose_strategy(options.strategy, options.tpu, options.virtual_devices)
        train.run(recipe, options.workdir, strategy)
    except InputError as error:
        fail(error, BAD_INPUT)
    except (train.TrainingStopped, checkpoints.NotFinite) as error:
        fail(error, DIVERGED)
    except checkpoints.SaveError as error:
        fail(error, CANNOT_SAVE)
    except interruption.Preempted as error:
        fail(error, PREEMPTED)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last checkpoint, if any.",
              file=sys.stderr)
        sys.exit(INTERRUPTED)


def console():
    """The command `effnet-train`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    console()
