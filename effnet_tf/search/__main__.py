"""Searches the coefficients of compound scaling, or an architecture.

    python -m effnet_tf.search coefficients --workdir search --base b0 --dataset folder \\
        --data_dir photos --multiple_of 32
    python -m effnet_tf.search architecture --workdir runs/search --base small.json --dataset digits

Exit codes: 0 all is well; 2 bad input; 74 a file cannot be written or read; 130 interrupted by
hand; 143 ended by SIGTERM.
"""

import argparse

from effnet_tf import programs


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line; `run` is the chosen program."""
    from effnet_tf import command_line
    from effnet_tf.search import architecture, coefficient_program

    parser = command_line.parser("python -m effnet_tf.search ", __doc__)
    subparsers = parser.add_subparsers(required=True, metavar="PROGRAM")
    coefficient_program.add_program(subparsers)
    architecture.add_program(subparsers)
    return parser.parse_args(argv[1:])


def main(options: argparse.Namespace) -> None:
    """Runs the program that was chosen."""
    options.run(options)


if __name__ == "__main__":
    programs.run(main, parse)
