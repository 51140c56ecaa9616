"""Plans networks for a budget, counts one, or measures what a device takes for their operators.

    python -m effnet_tf.scaling plan --multiply_adds 600M --params 6M
    python -m effnet_tf.scaling plan --train_memory 8G --batch 64 --strategy compound --free d,w,r
    python -m effnet_tf.scaling plan --table
    python -m effnet_tf.scaling count --base mobilenet_v2 --width 2
    python -m effnet_tf.scaling measure --out phone.json

`plan` prints the best network of every strategy that meets all targets, in well under a second
and without TensorFlow; amounts are numbers with k, M or G (thousand, million, 1e9) or Ki, Mi, Gi
(powers of 1,024). `count` says what a base costs at factors that you give. `measure` times
operators of TFLite files, for `plan --latency_ms`. Exit codes: 0 all is well; 2 bad input, or no
network meets the targets; 74 a file cannot be written or read; 130 interrupted by hand; 143 ended
by SIGTERM.
"""

import argparse

from effnet_tf import programs
from effnet_tf.errors import InputError
from effnet_tf.scaling import measuring, pictures, reporting, scaled
from effnet_tf.scaling.planning import OutOfReach, Planner, best_first
from effnet_tf.scaling.strategies import STRATEGIES
from effnet_tf.scaling.targets import Targets, parse_amount
from effnet_tf.variants import DTYPES, REMAT


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf.scaling ", __doc__)
    chosen = parser.add_subparsers(dest="program", required=True)
    _add_plan(chosen.add_parser("plan", help="find the best networks that meet targets"))
    scaled.add_options(chosen.add_parser("count", help="count a base, scaled by factors"))
    _add_measure(chosen.add_parser("measure", help="time the operators of TFLite files"))
    return parser.parse_args(argv[1:])


def _amount(text):
    try:
        return parse_amount(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _add_plan(parser):
    targets = parser.add_argument_group("targets", "the most that a network may cost; at least one")
    targets.add_argument("--multiply_adds", type=_amount, metavar="N", help="of one image")
    targets.add_argument(
        "--params", type=_amount, metavar="N", help="batch-norm statistics included"
    )
    targets.add_argument(
        "--train_memory", type=_amount, metavar="BYTES", help="of a training step, compiled"
    )
    targets.add_argument("--latency_ms", type=float, metavar="MS", help="of one image, predicted")
    conditions = parser.add_argument_group("conditions")
    conditions.add_argument("--batch", type=int, help="images in a training step (default 32)")
    conditions.add_argument("--dtype", choices=DTYPES, help="of its maps (default float32)")
    conditions.add_argument(
        "--remat", choices=REMAT, help="what a training step computes again (default none)"
    )
    conditions.add_argument("--latency_table", metavar="FILE", help="that `measure` has written")
    _add_search(parser.add_argument_group("networks"))
    _add_results(parser.add_argument_group("results"))


def _add_search(group):
    group.add_argument("--base", help="name of a variant, or a file of one (default b0)")
    strategies = "; ".join(f"{each.name}: {each.about}" for each in STRATEGIES.values())
    group.add_argument(
        "--strategy",
        action="append",
        choices=STRATEGIES,
        help=f"{strategies} (default: all; may be given several times)",
    )
    group.add_argument(
        "--free",
        metavar="d,w,r",
        help="search these axes in any ratio, too: depth, width, resolution, each from a quarter "
        "to four times the base, depth and width in steps of 0.01",
    )
    group.add_argument("--num_classes", type=int, help="of the classifier (default: the base's)")
    group.add_argument(
        "--multiple_of", type=int, metavar="PIXELS", help="what sides are rounded to (default 32)"
    )


def _add_results(group):
    group.add_argument(
        "--table", action="store_true", help="print B0 to B8 beside the paper's formula"
    )
    group.add_argument("--plot", metavar="FILE.png", help="draw the plans among published networks")
    group.add_argument(
        "--save", metavar="FILE.json", help="write the best network, for --variant of all programs"
    )


def _add_measure(parser):
    parser.add_argument("--out", required=True, metavar="FILE.json", help="the table")
    parser.add_argument("--base", default="b0", help="whose operators (default b0)")
    parser.add_argument("--threads", type=int, default=1, help="of each operator (default 1)")
    parser.add_argument("--device", help="what the table says of the device (default: this one)")
    parser.add_argument(
        "--write_operators",
        metavar="FOLDER",
        help="time nothing: write the operators as files, to be timed elsewhere",
    )
    parser.add_argument(
        "--logs", metavar="FOLDER", help="time nothing: read what LiteRT's benchmark said of these"
    )


# The defaults of `plan`, which are printed where nothing else was asked for.
DEFAULTS = {"base": "b0", "batch": 32, "dtype": "float32", "multiple_of": 32, "remat": "none"}


def plan(options: argparse.Namespace) -> None:
    """Runs `plan`."""
    if options.table:
        print("\n".join(reporting.describe_family()))
        if not _wants_plans(options):
            return
    if options.plot:
        pictures.require()
    targets = Targets(
        options.multiply_adds, options.params, options.train_memory, options.latency_ms
    )
    settings, chosen = _settings(options)
    planner = Planner(
        targets=targets, table=options.latency_table, num_classes=options.num_classes, **settings
    )
    print(reporting.describe_targets(targets, planner.batch, planner.dtype, planner.remat))
    print(f"Chosen for you: {', '.join(chosen)}.\n")
    plans, refusals = _plans(planner, options)
    if not plans:
        raise InputError("\n".join(refusals))
    print("\n".join(reporting.describe_plans(plans, targets)))
    if refusals:
        print("\n" + "\n".join(refusals))
    _write(options, plans)


def _wants_plans(options):
    given = (options.multiply_adds, options.params, options.train_memory, options.latency_ms)
    return any(each is not None for each in given)


def _settings(options):
    """Returns the planner's settings, and which of them nobody asked for."""
    settings, chosen = {}, []
    for name, default in DEFAULTS.items():
        settings[name] = getattr(options, name)
        if settings[name] is None:
            settings[name] = default
            chosen.append(f"--{name} {default}")
    if options.num_classes is None:
        chosen.append("the base's --num_classes")
    if options.strategy is None:
        chosen.append("all strategies (--strategy)")
    if not chosen:
        chosen.append("nothing")
    return settings, chosen


def _plans(planner, options):
    """Returns the plans, best first, and a sentence for each strategy without one."""
    found, refusals = [], []
    for name in options.strategy or STRATEGIES:
        try:
            found.append(planner.on_line(name))
        except OutOfReach as refusal:
            refusals.append(str(refusal))
        except InputError as refusal:
            if options.strategy:
                raise
            refusals.append(str(refusal))  # of all strategies one may not be limited
    if options.free:
        try:
            found += planner.freely(options.free)
        except OutOfReach as refusal:
            refusals.append(str(refusal))
    return best_first(found), refusals


def _write(options, plans):
    if options.save:
        plans[0].save(options.save)
        print(
            f"\nWrote {options.save}: {plans[0].variant.name}. Train it: --variant {options.save}"
        )
    if options.plot:
        pictures.draw(plans, options.plot)
        print(f"\nDrew {options.plot}")


def main(options: argparse.Namespace) -> None:
    """Runs the program that was chosen."""
    if options.program == "plan":
        plan(options)
    elif options.program == "count":
        scaled.count(options)
    else:
        measuring.measure(options)


if __name__ == "__main__":
    programs.run(main, parse)
