"""How long does a network take to build, beside keras.applications?

    pip install 'effnet_tf[cpu]'
    python benchmarks/build_time.py                # about 3 minutes on 2 cores
    python benchmarks/build_time.py --rounds 1     # a first look

Theirs is what a user would take instead: `keras.applications.EfficientNetB7(weights=None)`.
Ours are the two forms of the same network: the drop-in constructor, of the same flat graph, and
`model_fn`, of one layer per block. They take turns in one process, every other round backwards.
Times are CPU seconds of the process, user and system, around the call alone; a ratio is ours
divided by theirs in the same round. Writes build_time.json beside this file.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import statistics
import sys
import time

from effnet_tf import extras

RESULTS = pathlib.Path(__file__).resolve().parent / "build_time.json"
NAMES = ("EfficientNetB0", "EfficientNetB7")
THEIRS = "keras.applications"


def builders(name):
    """Returns {who: what builds the network} for the name of a constructor."""
    import keras

    import effnet_tf

    variant = name.removeprefix("EfficientNet").lower()
    return {
        THEIRS: lambda: getattr(keras.applications, name)(weights=None),
        "constructor": lambda: getattr(effnet_tf, name)(weights=None),
        "model_fn": lambda: effnet_tf.model_fn(variant),
    }


def cpu_seconds(build):
    """Returns the CPU seconds of a build, in a program as Keras finds it at its start."""
    import keras

    keras.backend.clear_session()
    start = time.process_time()
    build()
    return time.process_time() - start


def measure(name, rounds):
    """Takes turns: who -> the seconds of every round."""
    found = {who: [] for who in builders(name)}
    for number in range(rounds + 1):
        turns = list(builders(name).items())
        if number % 2:
            turns.reverse()
        for who, build in turns:
            seconds = cpu_seconds(build)
            if number:  # the first round imports and warms up
                found[who].append(seconds)
        print(f"{name}: round {number} of {rounds}", flush=True)
    return found


def row(name, found):
    """Returns a row of the results: median seconds, and the ratios to theirs."""
    result = {"network": name, THEIRS: round(statistics.median(found[THEIRS]), 2)}
    for who in ("constructor", "model_fn"):
        ratios = sorted(ours / theirs for ours, theirs in zip(found[who], found[THEIRS]))
        result[who] = {
            "seconds": round(statistics.median(found[who]), 2),
            "ratio": round(statistics.median(ratios), 3),
            "lowest": round(ratios[0], 3),
            "highest": round(ratios[-1], 3),
        }
    return result


def versions():
    """Returns the versions of the packages that the figures depend on."""
    wanted = ("tensorflow", "tensorflow-cpu", "keras", "numpy")
    return {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name.lower().replace("_", "-") in wanted
    }


def main():
    """Measures, prints the rows, writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    extras.require_or_exit("This benchmark", "tensorflow", "keras")
    rows = [row(name, measure(name, options.rounds)) for name in NAMES]
    for each in rows:
        print(json.dumps(each))
    results = {
        "command": " ".join(["python", *sys.argv]),
        "rounds": options.rounds,
        "versions": versions(),
        "cores": os.cpu_count(),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
