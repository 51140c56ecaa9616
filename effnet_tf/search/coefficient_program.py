"""Which options does `python -m effnet_tf.search coefficients` take?"""

import argparse
import dataclasses

from effnet_tf import programs, progress
from effnet_tf.errors import InputError
from effnet_tf.search.one_thread import use_one_thread
from effnet_tf.search.settings import Settings

# Options that nobody gave have these, and are printed.
DEFAULTS = {
    "factor": 2.0,
    "tolerance": 0.03,
    "seeds": 5,
    "folds": 5,
    "most": 32,
    "multiple_of": 1,
    "processes": 1,
}
SETTINGS = ("epochs", "batch_size", "learning_rate", "weight_decay", "shift")


def add_program(subparsers: argparse._SubParsersAction) -> None:
    """Adds the program `coefficients`."""
    parser = subparsers.add_parser(
        "coefficients",
        help="search alpha, beta and gamma of compound scaling for a data set",
        description="Trains networks of equal counted multiply-adds, briefly, and says which "
        "ratio of depth, width and resolution is best, and how sure that is. The same command "
        "again goes on where it was interrupted.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--workdir", required=True, metavar="FOLDER", help="for all that is written"
    )
    parser.add_argument(
        "--report", action="store_true", help="train nothing: compute --workdir's answer again"
    )
    _add_networks(parser.add_argument_group("networks"))
    _add_images(parser.add_argument_group("images"))
    _add_trainings(parser.add_argument_group("trainings"))


def _add_networks(group):
    group.add_argument("--base", help="name of a variant, or a file of one")
    group.add_argument(
        "--factor", type=float, help="on the base's counted multiply-adds (default 2)"
    )
    group.add_argument(
        "--tolerance", type=float, help="largest relative distance from that (default 0.03)"
    )
    group.add_argument("--most", type=int, help="networks that are compared (default 32)")
    group.add_argument(
        "--multiple_of", type=int, metavar="PIXELS", help="what sides are multiples of (default 1)"
    )
    group.add_argument("--most_pixels", type=int, metavar="PIXELS", help="no side is larger")


def _add_images(group):
    group.add_argument("--dataset", help="'digits', 'folder', 'table', a TFDS data set, ...")
    group.add_argument("--data_dir", help="where it lies")
    group.add_argument(
        "--folds", type=int, help="equal parts, of which one is held out at a time (default 5)"
    )


def _add_trainings(group):
    group.add_argument(
        "--seeds", type=int, help="of the best networks; as many for the report (default 5)"
    )
    group.add_argument(
        "--no_halving",
        action="store_true",
        help="give every network all seeds, instead of ever more to ever fewer",
    )
    for name in SETTINGS:
        default = getattr(Settings, name)
        group.add_argument(
            f"--{name}", type=type(default), help=f"of each training (default {default:g})"
        )
    group.add_argument("--processes", type=int, help="that train, one core each (default 1)")


def run(options: argparse.Namespace) -> None:
    """Searches, or computes the answer again."""
    from effnet_tf.search import coefficient_search

    programs.on_interruption(programs.goes_on_in(options.workdir))
    if options.report:
        coefficient_search.answer(options.workdir)
        return
    for name in ("base", "dataset"):
        if getattr(options, name) is None:
            raise InputError(f"--{name} is missing: a search needs one, only --report does not.")
    given, chosen = {}, []
    for name, default in DEFAULTS.items():
        given[name] = getattr(options, name)
        if given[name] is None:
            given[name] = default
            chosen.append(f"--{name} {default:g}")
    settings, unset = _settings(options)
    print(f"Chosen for you: {', '.join([*chosen, *unset]) or 'nothing'}.")
    _use_one_core()
    coefficient_search.coefficients(
        options.base,
        options.dataset,
        options.workdir,
        data_dir=options.data_dir,
        most_pixels=options.most_pixels,
        halving=not options.no_halving,
        settings=settings,
        **given,
    )


def _settings(options):
    """Returns the settings of trainings, and which of them nobody asked for."""
    settings, unset = Settings(), []
    for name in SETTINGS:
        value = getattr(options, name)
        if value is None:
            unset.append(f"--{name} {getattr(settings, name):g}")
        else:
            settings = dataclasses.replace(settings, **{name: value})
    return settings, unset


def _use_one_core():
    """As the processes of several workers do: results do not depend on how many there are."""
    with programs.nothing_to_undo(), progress.starting():
        use_one_thread()
