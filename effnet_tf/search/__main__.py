"""Searches the coefficients of compound scaling, or an architecture.

python -m effnet_tf.search architecture --workdir runs/search --base small.json --dataset digits
"""

import argparse

from effnet_tf import programs


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line; `run` is the chosen program."""
    from effnet_tf import command_line
    from effnet_tf.search import architecture

    parser = command_line.parser("python -m effnet_tf.search", __doc__)
    subparsers = parser.add_subparsers(required=True, metavar="PROGRAM")
    architecture.add_program(subparsers)
    return parser.parse_args(argv[1:])


def main(options: argparse.Namespace) -> None:
    """Runs the program that was chosen."""
    options.run(options)


if __name__ == "__main__":
    programs.run(main, parse)
