"""Searches an architecture: what shall each stage of a base be, for accuracy at a cost?

python -m effnet_tf.search architecture --workdir runs/search --base small.json --dataset digits
python -m effnet_tf.search architecture --workdir runs/search --export best --out found.json

Every trial trains one network for a short while, in a process of its own. The same command goes on
with a search, and joins it: here, or on any machine that shares the folder or the storage.
"""

import argparse
from typing import Any

from effnet_tf import extras
from effnet_tf.errors import InputError
from effnet_tf.search import results, session, studies
from effnet_tf.search.rewards import COSTS, OBJECTIVES
from effnet_tf.search.space import Space
from effnet_tf.variants import find_variant, save_variant

NAME = "architecture"


def add_program(subparsers: Any) -> None:
    """Adds the program to those of `python -m effnet_tf.search`."""
    parser = subparsers.add_parser(
        NAME,
        help="what shall each stage of a base be?",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, help="folder of the search")
    _add_networks(parser.add_argument_group("networks"))
    _add_training(parser.add_argument_group("images and training"))
    _add_search(parser.add_argument_group("search"))
    _add_results(parser.add_argument_group("results"))
    parser.set_defaults(run=run)


def _add(group, name, about, **settings):
    """Adds an option whose default is printed when nobody gave it."""
    text = f"{about} (default {session.DEFAULTS[name]})"
    group.add_argument(f"--{name}", help=text, **settings)


def _add_networks(group):
    group.add_argument("--base", help="whose stages choose: a variant's name, or a file of one")
    _add(group, "objective", "reward, or Pareto front", choices=OBJECTIVES)
    _add(group, "cost", "what a network costs; latency is timed here", choices=COSTS)
    group.add_argument(
        "--target", metavar="N", help="what it should cost, such as 600M (default: as the base)"
    )


def _add_training(group):
    group.add_argument("--dataset", help="as of train_tpu.py; its held-out part is kept aside")
    group.add_argument("--data_dir", help="where it lies")
    group.add_argument(
        "--holdout",
        type=float,
        default=0.2,
        help="share that is kept aside, where the data set has no such part (default %(default)g)",
    )
    _add(group, "epochs", "of each training", type=int)
    _add(group, "batch_size", "images in a step", type=int)
    _add(group, "learning_rate", "at the top of the warm-up", type=float)
    _add(group, "seeds", "trainings per trial, whose mean counts", type=int)


def _add_search(group):
    _add(group, "trials", "finished ones, of all workers together", type=int)
    _add(group, "sampler", "of Optuna", choices=studies.SAMPLERS)
    _add(group, "seed", "of the sampler", type=int)
    _add(group, "processes", "trials at a time in this worker", type=int)
    group.add_argument(
        "--storage",
        metavar="PLACE",
        help="what workers share: a journal file, a database such as postgresql://..., or "
        "grpc://HOST:PORT (default: a journal in the folder)",
    )
    group.add_argument("--study", default=NAME, help=f"its name there (default {NAME})")
    group.add_argument(
        "--patience",
        type=float,
        default=studies.PATIENCE,
        metavar="SECONDS",
        help="when a silent worker is taken for dead (default %(default)g)",
    )


def _add_results(group):
    group.add_argument(
        "--confirm",
        type=int,
        metavar="N",
        help="after the search, train the best N and the base again: fresh seeds, held-out images",
    )
    group.add_argument(
        "--confirm_seeds", type=int, default=10, metavar="N", help="of these (default %(default)d)"
    )
    group.add_argument(
        "--export", metavar="TRIAL", help="search nothing; write a network: best, or a number"
    )
    group.add_argument("--out", metavar="FILE.json", help="where to, for --variant of all programs")


def run(options: argparse.Namespace) -> None:
    """Runs the program."""
    if options.export:
        export(options)
    else:
        session.search(options)


def export(options: argparse.Namespace) -> None:
    """Writes a network that a search has found, as a file that all programs take."""
    extras.require(studies.PURPOSE, "optuna")
    if not options.out:
        raise InputError("Give --out, the file that the network is written to.")
    study = studies.Study(session.open_storage(options, must_exist=True), options.study)
    about = study.settings
    trial = results.find(study.finished(), options.export, about["objective"], about["cost"])
    base = find_variant(about["base"])
    name = f"{base.name}-trial{trial.number}"
    save_variant(Space(base).variant(trial.about["spec"], name), options.out)
    print("\n".join(results.describe([trial], about["cost"])))
    print(f"\nWrote {options.out}: {name}. Train it: --variant {options.out}")
