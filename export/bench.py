"""The program `bench`: how fast are TFLite files, compared with each other?"""

import argparse
import os
from typing import Any

from effnet_tf import isolated
from effnet_tf.errors import InputError, printable


def add_program(programs: Any) -> None:
    """Adds the program to the parser's subcommands."""
    text = "compare the latency of TFLite files on this machine's CPU"
    parser = programs.add_parser(
        "bench",
        help=text,
        description=text + ", in turns in one process: the ratios hold "
        "where other programs run, too",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help=".tflite files; the first counts as 1"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, help="for each comparison (default 10)"
    )
    parser.set_defaults(run=bench, in_a_child=True)


def _seconds(text):
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError(text)
    return seconds


def bench(options: argparse.Namespace) -> None:
    """Prints time per image of the first file, and the others' as ratios, for 1 and 2 threads.

    In a process of its own, which a damaged file may kill.
    """
    job = compare, {"paths": options.files, "seconds": options.seconds}
    try:
        isolated.call(job, shown=True, silence=options.seconds + isolated.SILENCE)
    except isolated.WorkerError as error:
        which = " or ".join(f"'{path}'" for path in options.files)
        raise InputError(f"{which} cannot be run: {error.reason}.") from error


def compare(paths: list[str], seconds: float) -> None:
    """Times TFLite files in turns and prints a table; see the program's options.

    Raises:
        InputError: one is something else, damaged, or takes more than images.
    """
    from effnet_tf.export.tflite import measuring

    data = [_opened(path) for path in paths]
    titles = [printable(os.path.basename(path)) for path in paths]
    width = max(map(len, titles))
    for threads, title in ((1, "1 thread"), (2, "2 threads")):
        print(f"{title}, XNNPACK; time per image, in turns")
        first, *ratios = measuring.latencies(data, threads, seconds)
        rows = [f"{first * 1e3:.2f} ms", *(f"{ratio:.2f} x" for ratio in ratios)]
        for name, row in zip(titles, rows):
            print(f"  {name:<{width}}  {row}")


def _opened(path):
    """Returns the bytes of a TFLite file that takes images."""
    from effnet_tf.export import checksum, identify, runtimes

    if identify.kind(path) != "TFLite":
        raise InputError(f"'{path}' is not a TFLite file; bench compares those.")
    checksum.check(path)
    runtimes.layout_of_tflite(path, identify.tflite_model(path))
    return identify.content(path)
