"""How large is an exported B0, and what do export and load cost, beside keras.applications?

    pip install 'effnet_tf[cpu]'
    python benchmarks/export_size.py                # about 6 minutes on 2 cores
    python benchmarks/export_size.py --rounds 3     # a first look

Theirs is what a user would take instead: `keras.applications.EfficientNetB0` and its
`model.export()`. Ours is the same network, written by `effnet_tf.export.saved_model.write`
with all signatures and assets, without the verification that `to_saved_model` adds. Both
have random weights, which cost the same bytes.

They take turns, every step in a fresh process: one builds the model and then exports it,
one loads the file (TensorFlow runs already) and asks `serving_default` for one image. Times
are CPU seconds of that process, user and system, around the call alone. A ratio is ours
divided by theirs in the same round. Writes export_size.json beside this file.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

from effnet_tf import extras

RESULTS = pathlib.Path(__file__).resolve().parent / "export_size.json"
SIDES = ("ours", "keras")
# Name of a row -> (unit, the largest ratio that issue 6 wants, or None).
ROWS = {
    "size": ("MB", 0.5),
    "export": ("CPU s", 0.3),
    "load": ("CPU s", 0.5),
    "first call": ("CPU s", None),
    "load + first call": ("CPU s", None),
}


# --- steps, each in a process of its own ---------------------------------------------------


def cpu_seconds(call):
    """Returns (CPU seconds of this process in a call, what it returns)."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


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


def in_fresh_process(step, side, path):
    """Runs a step in a fresh process; returns what it returns."""
    done = subprocess.run(
        [sys.executable, __file__, "--step", step, side, path],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        sys.exit(f"{step} of {side} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # Keras prints before


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
                # Every other round backwards: a neighbour's heat tells on both alike.
                for side in SIDES[:: -1 if number % 2 else 1]:
                    figures[side] |= in_fresh_process(step, side, paths[side])
            for side in SIDES:
                found[side].append({"size": megabytes(paths[side]), **figures[side]})
        print(f"round {number + 1} of {rounds}", flush=True)
    return found


def summary(found):
    """Returns the rows of the results."""
    rows = []
    for name, (unit, target) in ROWS.items():
        values = {side: [figures[name] for figures in found[side]] for side in SIDES}
        ratios = [ours / keras for ours, keras in zip(values["ours"], values["keras"])]
        quartiles = (
            statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        )
        rows.append(
            {
                "name": name,
                "unit": unit,
                **{side: round(statistics.median(values[side]), 2) for side in SIDES},
                **{
                    key: round(value, 3)
                    for key, value in zip(("low_quartile", "ratio", "high_quartile"), quartiles)
                },
                "target": target,
            }
        )
    return rows


def table(rows):
    """Returns the Markdown table of the results."""
    lines = [
        "| B0 | ours | keras.applications | ratio: median (quartiles) | target |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        target = f"≤ {row['target']}" if row["target"] else ""
        lines.append(
            f"| {row['name']}, {row['unit']} | {row['ours']:.2f} | {row['keras']:.2f} | "
            f"{row['ratio']:.3f} ({row['low_quartile']:.3f} to "
            f"{row['high_quartile']:.3f}) | {target} |"
        )
    return "\n".join(lines)


def machine():
    """Returns what the figures depend on, beside the code."""
    names = ("tensorflow", "tensorflow-cpu", "keras", "numpy")
    versions = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name.lower().replace("_", "-") in names
    }
    cpu = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    return {"versions": versions, "cpu": cpu, "cores": os.cpu_count()}


def parse():
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)  # of a fresh process
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def main():
    """Measures, prints the table, writes the results."""
    options = parse()
    extras.require_or_exit("This benchmark", "tensorflow", "keras")
    if options.step:
        step, side, path = options.step
        print("\n" + json.dumps(STEPS[step](side, path)))
        return
    rows = summary(measure(options.rounds))
    print(table(rows))
    RESULTS.write_text(
        json.dumps(
            {
                "command": " ".join(["python", *sys.argv]),
                "rounds": options.rounds,
                **machine(),
                "rows": rows,
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
