"""How long is it until something happens, beside keras.applications?

    pip install 'effnet_tf[cpu,plots]'
    python benchmarks/start.py                # about 5 minutes on 2 cores
    python benchmarks/start.py --rounds 1     # a first look

In fresh processes: importing and building B0, and the first training step of eight images of 64
pixels, by a `tf.function` without an optimiser; "to the first step" is both. In one process:
building B0 and B7 again and again, as a program does that has imported everything. Theirs is what a
user would take instead: `keras.applications.EfficientNetB0`. Ours are the two forms of the same
network: `model_fn`, of one layer per block, and the drop-in constructor, of the same flat graph as
theirs. All have random weights. They take turns, every other round backwards. Times are CPU seconds
of the process, user and system; a ratio is ours divided by theirs in the same round.

And how long an import and `--help` take by the clock, beside a Python that does nothing, and
whether they import TensorFlow. Writes start.json beside this file, and docs/images/start.png.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import time

import pairs  # beside this file
from pairs import THEIRS

from effnet_tf import extras

WHO = (THEIRS, "model_fn", "constructor")
VARIANTS = ("b0", "b7")
SIZE = 64
STEPS = ("import and build b0", "first step", "to the first step")
ROOT = pairs.HERE.parent
PROGRAMS = {
    "nothing": ["-c", "pass"],
    "import effnet_tf": ["-c", "import effnet_tf"],
    "import keras": ["-c", "import keras"],
    "train_tpu.py --help": [str(ROOT / "train_tpu.py"), "--help"],
    "effnet --help": ["-m", "effnet_tf", "--help"],
}


def build(who, variant, **shape):
    """Returns a new network of random weights."""
    if who == "model_fn":
        import effnet_tf

        return effnet_tf.model_fn(variant, **shape)
    if who == THEIRS:
        import keras.applications as home
    else:
        import effnet_tf as home
    return getattr(home, f"EfficientNet{variant.upper()}")(weights=None, **shape)


def first_step(model):
    """Takes a training step."""
    import keras
    import tensorflow as tf

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            scores = model(images, training=True)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, scores))
        return loss, tape.gradient(loss, model.trainable_variables)

    loss, _ = step(tf.random.uniform((8, SIZE, SIZE, 3), 0, 255), tf.range(8))
    return loss.numpy()


def begin(who):
    """Returns {step: CPU seconds} of this process, which has not imported Keras yet."""
    building, model = pairs.cpu_seconds(lambda: build(who, "b0", input_shape=(SIZE, SIZE, 3)))
    stepping, _ = pairs.cpu_seconds(lambda: first_step(model))
    return dict(zip(STEPS, (building, stepping, building + stepping)))


def build_again(rounds):
    """Returns {"build b7": {who: CPU seconds of every round}, ...}, in this process."""
    import keras

    found = {f"build {variant}": {who: [] for who in WHO} for variant in VARIANTS}
    for variant in VARIANTS:
        for number in range(rounds + 1):
            for who in pairs.turns(WHO, number):
                keras.backend.clear_session()
                seconds, _ = pairs.cpu_seconds(functools.partial(build, who, variant))
                if number:  # the first round imports and warms up
                    found[f"build {variant}"][who].append(seconds)
    return found


def from_the_start(rounds):
    """Returns {step: {who: CPU seconds of every round}}, of fresh processes."""
    found = {step: {who: [] for who in WHO} for step in STEPS}
    for number in range(rounds):
        for who in pairs.turns(WHO, number):
            for step, seconds in pairs.apart(__file__, "--step", "begin", who).items():
                found[step][who].append(seconds)
        print(f"round {number + 1} of {rounds}", flush=True)
    return found


def rows_of(found):
    """Yields a row for every step and each of our forms."""
    for step, times in found.items():
        for who in WHO[1:]:
            yield {"step": step, "who": who, **pairs.compared(times[who], times[THEIRS])}


def programs(rounds):
    """Yields a row for every program that does next to nothing."""
    for name, words in PROGRAMS.items():
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times.append(time.perf_counter() - start)
        loud = subprocess.run(
            [sys.executable, "-X", "importtime", *words], check=True, capture_output=True, text=True
        )
        imported = {line.rpartition("|")[2].strip() for line in loud.stderr.splitlines()}
        row = {"program": name, "seconds": round(statistics.median(times), 3)}
        yield {**row, "imports_tensorflow": "tensorflow" in imported}


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)  # of a process of its own
    return parser.parse_args()


def main():
    """Measures, prints the rows, writes results and picture."""
    options = parse()
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "matplotlib")
    if options.step:
        step, of = options.step
        print("\n" + json.dumps(begin(of) if step == "begin" else build_again(int(of))))
        return
    found = from_the_start(options.rounds)
    found |= pairs.apart(__file__, "--step", "build", options.rounds)
    rows, short = list(rows_of(found)), list(programs(options.rounds))
    for row in (*rows, *short):
        print(row)
    pairs.save("start", rows, rounds=options.rounds, programs=short)
    bars = {f"{row['step']}, {row['who']}": row["ratio"] for row in rows}
    pairs.picture("start", "CPU time beside keras.applications", bars)


if __name__ == "__main__":
    main()
