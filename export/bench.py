"""The program `bench`: how fast are networks, compared with each other?"""

import argparse
import os
from typing import Any

from effnet_tf import isolated
from effnet_tf.errors import InputError, printable

THREADS = {1: "1 thread", 2: "2 threads"}
# What TensorFlow computes itself; onnxruntime has threads of its own.
COMPARED = "TFLite files, SavedModels, .keras files and runs"


def add_program(programs: Any) -> None:
    """Adds the program to the parser's subcommands."""
    text = f"compare the latency of {COMPARED} on this machine's CPU"
    parser = programs.add_parser(
        "bench",
        help=text,
        description=text + ", in turns in one process: the ratios hold "
        "where other programs run, too",
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".tflite or .keras files, SavedModels or run directories; the first counts as 1",
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, help="for each comparison (default 10)"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="run a SavedModel that does more than compute on tensors",
    )
    parser.set_defaults(run=bench, in_a_child=True)


def _seconds(text):
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError(text)
    return seconds


def bench(options: argparse.Namespace) -> None:
    """Prints time per image of the first file, and the others' as ratios, for 1 and 2 threads.

    Each in a process of its own, which a damaged file may kill; and TensorFlow keeps the number
    of threads with which it has begun.
    """
    given = {"paths": options.files, "seconds": options.seconds, "trust": options.trust}
    try:
        for threads in THREADS:
            isolated.call(
                (compare, {**given, "threads": threads}),
                shown=True,
                silence=options.seconds + isolated.SILENCE,
            )
    except isolated.WorkerError as error:
        which = " or ".join(f"'{path}'" for path in options.files)
        raise InputError(f"{which} cannot be run: {error.reason}.") from error


def compare(paths: list[str], seconds: float, threads: int = 1, trust: bool = False) -> None:
    """Times networks in turns and prints a table; see the program's options.

    Raises:
        InputError: one is something else, damaged, or takes more than images.
    """
    from effnet_tf import progress

    with progress.starting(isolated.progress.terminal):
        from effnet_tf.export.tflite import measuring
    opened = [_opened(path, threads, trust) for path in paths]
    times = measuring.in_turns([network for _, network in opened], seconds)
    print(f"{THREADS[threads]}; time per image, in turns")
    _print_table(map(_title, paths), [runtime for runtime, _ in opened], _told(times))


def _title(path):
    return printable(os.path.basename(os.path.normpath(path)))


def _told(times):
    """Returns the first time as text, and the others as ratios."""
    first, *ratios = times
    return [f"{first * 1e3:.2f} ms", *(f"{ratio:.2f} x" for ratio in ratios)]


def _print_table(*columns):
    columns = [list(column) for column in columns]
    widths = [max(map(len, column)) for column in columns]
    for cells in zip(*columns):
        padded = (cell.ljust(width) for cell, width in zip(cells, widths))
        print("  ".join(["", *padded]).rstrip())


def _opened(path, threads, trust):
    """Returns what runs a network, and (function of images, the shape that it takes)."""
    from effnet_tf.export import identify
    from effnet_tf.inference import subjects

    if subjects.is_run(path):
        return _of_tensorflow(path, threads, trust)
    kind = identify.kind(path)
    if kind == "TFLite":
        return "XNNPACK", _of_tflite(path, threads)
    if kind == "ONNX":
        raise InputError(f"'{path}' is an ONNX file; bench compares {COMPARED}.")
    return _of_tensorflow(path, threads, trust)


def _of_tflite(path, threads):
    from effnet_tf.export import checksum, identify, runtimes
    from effnet_tf.export.tflite import interpreter

    checksum.check(path)
    runtimes.layout_of_tflite(path, identify.tflite_model(path))
    run = interpreter.Classifier(identify.content(path), threads=threads)
    return run, run.shape


def _of_tensorflow(path, threads, trust):
    from effnet_tf.inference import subjects

    _use_threads(threads)
    subject = subjects.open_subject(path, subjects.Options(trust=trust, crop=0))
    shape = (subject.layout.image_shape[0] or 1, *subject.size, subject.layout.channels)
    run = _compiled(subject)
    return "TensorFlow", (lambda images: run(images.astype("float32")), shape)


def _use_threads(threads):
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(threads)


def _compiled(subject):
    """Returns a network as a function; without Keras' predict, which takes longer than it."""
    import tensorflow as tf

    if subject.model is None or subject.is_run:
        return subject.scores
    return tf.function(subject.model, autograph=False)
