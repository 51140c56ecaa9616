"""How large is an exported B0, and what do export and load cost, beside keras.applications?

    pip install 'effnet_tf[cpu,plots]'
    python benchmarks/export_size.py                # about 6 minutes on 2 cores
    python benchmarks/export_size.py --rounds 3     # a first look

Theirs is what a user would take instead: `keras.applications.EfficientNetB0` and its
`model.export()`. Ours is the same network, written by `effnet_tf.export.saved_model.write`
with all signatures and assets, without the verification that `to_saved_model` adds. Both
have random weights, which cost the same bytes.

They take turns, every step in a fresh process: one builds the model and then exports it,
one loads the file (TensorFlow runs already) and asks `serving_default` for one image. Times
are CPU seconds of that process, user and system, around the call alone. A ratio is ours
divided by theirs in the same round. Writes export_size.json beside this file, and
docs/images/export_size.png.
"""

import argparse
import json
import os
import pathlib
import tempfile

import pairs  # beside this file
from pairs import cpu_seconds

from effnet_tf import extras

SIDES = ("ours", "theirs")
UNITS = {
    "size": "MB",
    "export": "CPU s",
    "load": "CPU s",
    "first call": "CPU s",
    "load + first call": "CPU s",
}


# --- steps, each in a process of its own ---------------------------------------------------


def export(side, path):
    """Builds B0, and returns what its export costs."""
    if side == "ours":
        import effnet_tf
        from effnet_tf.export import describe, folding, saved_model

        model = effnet_tf.EfficientNetB0(weights=None)
        names = tuple(f"class {number}" for number in range(1000))
        seconds, _ = cpu_seconds(
            lambda: saved_model.write(folding.fold(model), path, describe(model, class_names=names))
        )
    else:
        import keras

        model = keras.applications.EfficientNetB0(weights=None)
        seconds, _ = cpu_seconds(lambda: model.export(path))
    return {"export": seconds}


def load(side, path):
    """Loads a SavedModel, asks it once, and returns what both cost."""
    import tensorflow as tf

    image, opener = tf.zeros((1, 224, 224, 3)), tf.saved_model.load
    loading, module = cpu_seconds(lambda: opener(path))
    serve = module.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    calling, answer = cpu_seconds(
        lambda: {key: value.numpy() for key, value in serve(**{name: image}).items()}
    )
    shapes = {value.shape for value in answer.values()}
    assert shapes == {(1, 1000)}, f"{side} answers {shapes}"
    return {"load": loading, "first call": calling, "load + first call": loading + calling}


STEPS = {"export": export, "load": load}


# --- measuring -----------------------------------------------------------------------------


def megabytes(folder):
    """Returns the size of all files in a folder."""
    return (
        sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()) / 1e6
    )


def measure(rounds):
    """Takes turns: side -> the figures of every round."""
    found = {side: [] for side in SIDES}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            paths = {side: os.path.join(folder, side) for side in SIDES}
            figures = {side: {} for side in SIDES}
            for step in STEPS:
                for side in pairs.turns(SIDES, number):
                    figures[side] |= pairs.apart(__file__, "--step", step, side, paths[side])
            for side in SIDES:
                found[side].append({"size": megabytes(paths[side]), **figures[side]})
        print(f"round {number + 1} of {rounds}", flush=True)
    return found


def rows_of(found):
    """Yields the rows of the results."""
    for name, unit in UNITS.items():
        ours, theirs = ([figures[name] for figures in found[side]] for side in SIDES)
        yield {"name": name, "unit": unit, **pairs.compared(ours, theirs)}


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # of a fresh process
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main():
    """Measures, prints the table, writes the results."""
    options = parse()
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "matplotlib")
    if options.step:
        step, side, path = options.step
        print("\n" + json.dumps(STEPS[step](side, path)))
        return
    rows = list(rows_of(measure(options.rounds)))
    for row in rows:
        print(row)
    pairs.save("export_size", rows, rounds=options.rounds)
    ratios = {row["name"]: row["ratio"] for row in rows}
    pairs.picture("export_size", "A SavedModel of B0 beside keras.applications", ratios)


if __name__ == "__main__":
    main()
