"""The program `bench`: how fast are TFLite files, compared with each other?"""

import os

from effnet_tf.errors import InputError


def add_program(programs):
    """Adds the program to the parser's subcommands."""
    text = "compare the latency of TFLite files on this machine's CPU"
    parser = programs.add_parser(
        "bench", help=text, description=text + ", in turns in one process: the ratios hold "
        "where other programs run, too")
    parser.add_argument("files", nargs="+", metavar="FILE", help=".tflite files; the first counts "
                        "as 1")
    parser.add_argument("--seconds", type=_seconds, default=10.0,
                        help="for each comparison (default 10)")
    parser.set_defaults(run=bench)


def _seconds(text):
    seconds = float(text)
    if not seconds > 0:
        raise ValueError(text)
    return seconds


def bench(options):
    """Prints time per image of the first file, and the others' as ratios, for 1 and 2 threads."""
    from effnet_tf.export import artefact, files, verification
    for path in options.files:
        if artefact.kind(path) != "TFLite":
            raise InputError(f"'{path}' is no TFLite file; bench compares those.")
    data = [files.read(path) for path in options.files]
    width = max(len(os.path.basename(path)) for path in options.files)
    for threads in (1, 2):
        print(f"{threads} thread{'s' * (threads > 1)}, XNNPACK; time per image, in turns")
        first, *ratios = verification.latencies(data, threads, options.seconds)
        rows = [f"{first * 1e3:.2f} ms", *(f"{ratio:.2f} x" for ratio in ratios)]
        for path, row in zip(options.files, rows):
            print(f"  {os.path.basename(path):<{width}}  {row}", flush=True)
