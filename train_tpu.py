"""Trains an EfficientNet on a Cloud TPU, GPUs or the CPU, with the same command.

    python train_tpu.py --recipe digits --workdir runs/digits
    python train_tpu.py --dataset folder --data_dir photos --workdir runs/photos
    python train_tpu.py --variant b0 --dataset imagenet2012 --data_dir gs://BUCKET/tfds \\
        --tpu local --workdir gs://BUCKET/b0

The same command again resumes an interrupted run, and so does --workdir alone; --extend goes on
with other options. With --dry_run it says what it would cost, and tries everything out.

Exit codes: 0 done; 1 a fault of the program; 2 bad input; 3 training has diverged; 74 a
file cannot be written or read; 75 the machine was about to be taken away (SIGTERM, or the
notice of Google Cloud), the state is saved: run the command again; 130 interrupted by hand;
143 ended by SIGTERM before the run began.
"""

import argparse
import os

from effnet_tf import programs

SWEEP = "learning_rates.png"  # --find_learning_rate draws it in the --workdir


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line, recipes

    parser = command_line.parser("python train_tpu.py", __doc__)
    _add_run(parser)
    _add_devices(parser.add_argument_group("Devices"))
    recipes.add_options(parser)
    return _checked(parser, parser.parse_args(argv[1:]))


def _add_run(parser):
    parser.add_argument(
        "--workdir",
        help="directory of the run, local or gs://; it holds checkpoints, metrics and recipe.json",
    )
    parser.add_argument(
        "--extend",
        action="store_true",
        help="go on with the run in --workdir although other options differ: more --epochs in all, "
        "another rate, other augmentation. A new schedule begins at the newest checkpoint",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="print what the run would cost, and "
        "try the whole path on small images of noise, on 8 virtual devices",
    )
    parser.add_argument(
        "--find_learning_rate",
        action="store_true",
        help="train nothing: draw the loss over the rates of a short sweep, in the folder "
        "--workdir, and say which --base_learning_rate it suggests",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="record five steps after the tenth with TensorFlow's profiler, for TensorBoard",
    )


def _checked(parser, options):
    if not options.workdir and not options.dry_run:
        parser.error("give --workdir, where the run is to be kept (or --dry_run)")
    for name in ("profile", "extend", "find_learning_rate"):
        if getattr(options, name) and options.dry_run:
            parser.error(f"--{name} has no use with --dry_run, which keeps nothing")
    if options.find_learning_rate and options.extend:
        parser.error("--extend has no use with --find_learning_rate, which trains nothing")
    return options


def _add_devices(group):
    from effnet_tf import recipes
    from effnet_tf.train import cluster

    group.add_argument(
        "--strategy",
        default="auto",
        choices=recipes.STRATEGIES,
        help="tpu; mirrored: all GPUs; multiworker: the machines of TF_CONFIG; "
        "cpu; auto: what there is (printed)",
    )
    group.add_argument("--tpu", help="name or address of a Cloud TPU, 'local' on a TPU VM")
    group.add_argument(
        "--virtual_devices",
        type=int,
        metavar="N",
        help="with --strategy mirrored: so many devices made of the CPU, to try "
        "several replicas out",
    )
    group.add_argument(
        "--worker_timeout",
        type=_seconds,
        default=cluster.TIMEOUT,
        metavar="SECONDS",
        help="with --strategy multiworker: how long to wait "
        f"for the other workers (default {cluster.TIMEOUT:g})",
    )


def _seconds(text):
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return seconds


def main(options: argparse.Namespace) -> None:
    """Trains as `options` say."""
    recipe, train = _prepare(options)
    if options.dry_run:
        dry_run(recipe, train)
        return
    strategy = train.choose_strategy(
        options.strategy, options.tpu, options.virtual_devices, options.worker_timeout
    )
    if options.find_learning_rate:
        train.find_learning_rate(recipe, os.path.join(options.workdir, SWEEP), strategy)
        return
    programs.on_interruption(lambda: _what_is_kept(options.workdir))
    train.run(recipe, options.workdir, strategy, profile=options.profile, extend=options.extend)


def _prepare(options):
    """Returns (recipe, the module train); bad options are refused before TensorFlow starts."""
    from effnet_tf import extras, progress, recipes

    with programs.nothing_to_undo():
        begun = _begun(options)
        recipe = recipes.from_options(options, begun)
        if begun is None and _may_be_a_run(recipe.init_weights):
            recipe = _going_on(options).as_in_run(recipe, recipes.given(options))
        recipe.resolved_variant()
        extras.require("Training", "tensorflow", "keras")
        with progress.starting():
            import tensorflow  # noqa: F401
        from effnet_tf import train
        from effnet_tf.train import session  # noqa: F401  (it takes seconds)
    return recipe, train


def _begun(options):
    """Returns the recipe of the run in --workdir, with which it goes on; None of a new one."""
    from effnet_tf import errors, recipes
    from effnet_tf.messages import log

    begun = None
    if _may_be_a_run(options.workdir):
        begun = _going_on(options).recipe_of(options.workdir)
    if begun is not None:
        log.info(f"Goes on with the run in '{options.workdir}'.")
    elif not (options.recipe or recipes.given(options) or options.dry_run):
        raise errors.InputError(
            f"There is no run in '{options.workdir}' to go on with; for a new one say what to "
            "train on: --data_dir photos, a folder with one folder of images per class, or "
            "--dataset."
        )
    return begun


def _may_be_a_run(path):
    """Whether it is worth TensorFlow's start to look there; only that can read gs://."""
    return bool(path) and ("://" in path or os.path.isdir(path))


def _going_on(options):
    """Returns the module that knows runs, which needs TensorFlow."""
    from effnet_tf import extras, progress

    extras.require("Training", "tensorflow", "keras")
    with progress.starting():
        from effnet_tf.runs import going_on
    return going_on


def dry_run(recipe, train) -> None:
    """Tries the whole path of a recipe on virtual devices."""
    with programs.nothing_to_undo():
        from effnet_tf import dry_run
    programs.on_interruption(dry_run.last_words)
    dry_run.dry_run(recipe, train.choose_strategy("mirrored", None, dry_run.DEVICES))


def _what_is_kept(workdir):
    from effnet_tf.runs import directory

    if directory.has_progress(workdir):
        return "the same command goes on from the newest checkpoint"
    return "no step had been saved; the same command starts anew"


def console() -> None:
    """The command `effnet-train`."""
    programs.run(main, parse)


if __name__ == "__main__":
    console()
