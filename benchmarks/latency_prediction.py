"""How far are latencies that the planner predicts from those of files that are really timed?

    pip install 'effnet_tf[cpu]'
    python benchmarks/latency_prediction.py              # about 3 minutes on 2 cores
    python benchmarks/latency_prediction.py --exported --seed 17   # 10 minutes on an idle machine

A table is measured as `python -m effnet_tf.scaling measure` does. Then files of networks of random
width, depth and side are timed by the same interpreter, one thread, in processor time. They are put
together of the operators that export writes (tests/scaling/test_latency.py compares), or really
exported. The term for fetching weights was added when a first run on the exported networks of seed
17 had missed one by 51 %; its value, like everything in the table, comes from other networks.
Writes latency_prediction.json beside this file, and keeps the results of the other kind of file.
"""

import argparse
import json
import logging
import os
import pathlib
import platform
import random
import statistics
import sys
import tempfile

from effnet_tf import extras
from effnet_tf.scaling import measuring
from effnet_tf.scaling.nets import Nets
from effnet_tf.scaling.operators import operators_of_network
from effnet_tf.scaling.strategies import Factors
from effnet_tf.variants import VARIANTS, resolve

RESULTS = pathlib.Path(__file__).resolve().parent / "latency_prediction.json"


def rows(count, seed):
    """Yields variants of B0 of random factors; sides are multiples of 32."""
    chosen, nets = random.Random(seed), Nets(VARIANTS["b0"], 32, 1, "float32")
    for _ in range(count):
        depth, width = chosen.uniform(0.3, 1.6), chosen.uniform(0.4, 1.3)
        yield nets.row(Factors(depth, width, chosen.uniform(0.3, 1.1)))


def exported(row):
    """Returns the bytes of a variant's float32 TFLite file, with random weights."""
    import effnet_tf

    model = effnet_tf.model_fn(row, input_shape=(row.resolution, row.resolution, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "net.tflite")
        effnet_tf.export.to_tflite(model, path, quantize="none")
        return pathlib.Path(path).read_bytes()


def assembled(row):
    """Returns the bytes of a file of the same operators."""
    from effnet_tf.export.tflite import operator_files

    return operator_files.file_of_all(operators_of_network(resolve(row)), row.resolution)


def measure(table, row, make):
    """Returns a row of the results."""
    from effnet_tf.export.tflite import operator_files

    measured = operator_files.milliseconds_of(make(row))
    predicted = table.of_network(resolve(row))
    return {
        "depth": round(row.depth_coefficient, 3),
        "width": round(row.width_coefficient, 3),
        "pixels": row.resolution,
        "measured_ms": round(measured, 3),
        "predicted_ms": round(predicted, 3),
        "error": round(predicted / measured - 1, 4),
    }


def summary(options, table, found):
    """Returns the results of one kind of file."""
    errors = [each["error"] for each in found]
    sizes = [abs(error) for error in errors]
    return {
        "command": " ".join(["python", *sys.argv]),
        "seed": options.seed,
        "cores": os.cpu_count(),
        "operators": len(table.milliseconds_of),
        "context": round(table.context, 3),
        "fetching": round(table.fetching, 4),
        "median_error": round(statistics.median(sizes), 4),
        "worst_error": round(max(sizes), 4),
        "median_bias": round(statistics.median(errors), 4),
        "rows": found,
    }


def main():
    """Measures, prints the rows, writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--seed", type=int, default=99)
    parser.add_argument("--exported", action="store_true", help="time files that were exported")
    options = parser.parse_args()
    if options.files < 1:
        parser.error("--files must be at least 1")
    extras.require_or_exit("This benchmark", "tensorflow", "keras")
    logging.getLogger("effnet_tf").setLevel("WARNING")
    kind, make = "assembled", assembled
    if options.exported:
        kind, make = "exported", exported
    table = measuring.time_operators(VARIANTS["b0"], platform.machine())
    found = []
    for row in rows(options.files, options.seed):
        found.append(measure(table, row, make))
        print(json.dumps(found[-1]), flush=True)
    results = {}
    if RESULTS.exists():
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    results[kind] = summary(options, table, found)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
