"""Which commands take a training run from nothing to a Cloud TPU, and back?

    python tools/launch_tpu.py STEP --name effnet --zone us-west4-a \\
        --accelerator v5litepod-8 --bucket gs://my-bucket --spot [--dry_run] \\
        [-- options of train_tpu.py]

Steps, in this order (docs/tpu.md explains them): setup, data, create, wait, install,
train, watch, resume, export, delete; `all` is create, wait, install and train. --dry_run
prints the commands and runs none. The options after -- are checked first: a typo costs no TPU.

Exit codes: 0 done; 1 a command failed, and those after it were not run; 2 bad input;
130 interrupted by hand.
"""

import argparse
import contextlib
import difflib
import inspect
import io
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's effnet_tf and tools, whatever is installed

from effnet_tf import command_line, recipes  # noqa: E402
from effnet_tf.errors import InputError  # noqa: E402
from tools import launch_commands  # noqa: E402
from tools.launch_commands import CommandFailed  # noqa: E402
from tools.launch_steps import ACCELERATORS, STEPS  # noqa: E402

NAMES = {  # option: (what Google Cloud takes, an example, what it names)
    "name": (r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", "effnet-b0", "the TPU, and the run's directory"),
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z0-9]+", "us-west4-a", "where the TPU is"),
    "bucket": (r"gs://[a-z0-9][-_.a-z0-9]+", "gs://my-bucket", "where data and run are"),
}


def find_accelerator(name: str) -> tuple[int, str]:
    """Returns the row of an accelerator; refuses one that is not there, or known to be no use."""
    if name not in ACCELERATORS:
        (near,) = difflib.get_close_matches(name, ACCELERATORS, n=1, cutoff=0)
        raise InputError(f"There is no accelerator '{name}' here; did you mean {near}?")
    if name == "v6e-32":
        raise InputError(
            "v6e-32 is a slice of 8 machines, and the server of TensorFlow 2.20 for "
            "slices does not know v6e: use v6e-8, or v5litepod-32."
        )
    return ACCELERATORS[name]


def check_training(words: list[str]) -> recipes.Recipe:
    """Returns the recipe that options of train_tpu.py describe, as train_tpu.py would.

    Raises:
        InputError: the TPU could not train it.
    """
    recipe = _recipe_of(words)
    recipe.resolved_variant()
    weights = recipe.init_weights or ""
    is_file = "/" in weights  # else the name of published ones
    if (
        recipe.dataset == "folder"
        or _is_on_this_machine(recipe.data_dir)
        or (is_file and _is_on_this_machine(weights))
    ):
        raise InputError(
            "The TPU cannot read this machine's disk: give gs:// paths, and a "
            "TFDS data set in the bucket (see the step data) or --dataset digits."
        )
    return recipe


def _recipe_of(words):
    parser = command_line.OneLine(
        prog="train_tpu.py",
        usage="... -- [options of train_tpu.py]",
        add_help=False,
        allow_abbrev=False,
    )
    for option in ("--workdir", "--strategy", "--tpu"):
        parser.add_argument(option)
    recipes.add_options(parser)
    options = parser.parse_args(words)
    if options.workdir or options.strategy or options.tpu:
        raise InputError(
            "--workdir, --strategy and --tpu are made of --bucket, --name and "
            "--accelerator: leave them out after --."
        )
    with contextlib.redirect_stdout(io.StringIO()):  # train.log will say it
        return recipes.from_options(options)


def _is_on_this_machine(path):
    return bool(path) and not path.startswith("gs://")


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the checked command line: the `launch` of launch_steps.py."""
    parser = command_line.OneLine(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=STEPS, metavar="STEP", help=", ".join(STEPS))
    for name, (_, example, what) in NAMES.items():
        parser.add_argument(f"--{name}", required=True, help=f"{what}, such as {example}")
    parser.add_argument("--accelerator", required=True, help=", ".join(ACCELERATORS))
    parser.add_argument("--project", help="by default gcloud's own")
    parser.add_argument("--spot", action="store_true", help="cheaper, and may be taken away")
    parser.add_argument("--dry_run", action="store_true", help="print the commands, run none")
    split = [*argv, "--"].index("--")
    launch = parser.parse_args(argv[:split])
    _check_names(launch)
    machines, launch.image = find_accelerator(launch.accelerator)
    launch.is_slice = machines > 1
    launch.workdir = f"{launch.bucket}/{launch.name}"
    launch.options = argv[split + 1 :]
    launch.recipe = check_training(launch.options)
    return launch


def _check_names(launch):
    for name, (pattern, example, _) in NAMES.items():
        given = getattr(launch, name)
        if not re.fullmatch(pattern, given):
            raise InputError(f"--{name} is '{given}'; give one like {example}.")


def _take_step(launch):
    compose, hint = STEPS[launch.step]
    commands = compose(launch)
    if launch.dry_run:
        title, _, _ = (inspect.getdoc(compose) or launch.step).partition("\n")
        print(launch_commands.script(title, commands))
    else:
        launch_commands.run(commands, hint)


def main(argv: list[str]) -> int:
    """The program; returns its exit code."""
    try:
        _take_step(parse(argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except CommandFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was created stays: see the step delete.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
