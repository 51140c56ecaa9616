r"""What does a training step cost in time and memory, beside keras.applications?

    pip install 'effnet_tf[cpu]'
    python benchmarks/training_step.py                        # about 4 minutes on 2 cores
    python benchmarks/training_step.py --size 224 --batch 32 --steps 3 \
        --who model_fn model_fn:expansion model_fn:block      # the memory of a usual batch
    pip install 'effnet_tf[cpu,peers]'
    python benchmarks/training_step.py --out training_step_torch \
        --who model_fn timm timm:channels_last timm:compile

Theirs is what a user would take instead: `keras.applications.EfficientNetB0`, Keras' RMSprop and a
`tf.function` of a gradient and its application. Ours is the same function around `model_fn`, or
around the drop-in constructor, with our RMSprop; "model_fn:expansion" has `set_remat`. They take
turns, every other round backwards, each time in a process of its own. Time is CPU seconds of the
process, user and system, per step after the first two; memory is the most that the operating system
has seen the process hold, about 0.9 GB of which TensorFlow holds before the first step. A ratio is
ours divided by theirs in the same round; of speed it is theirs divided by ours. Writes
training_step.json beside this file, or what `--out` says.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import torch_step  # beside this file

from effnet_tf import extras

RESULTS = pathlib.Path(__file__).resolve().parent
THEIRS = "keras.applications"
OURS = ("model_fn", "constructor")
CLASSES = 1000


def network(who, variant, size):
    """Returns a new network that gives logits."""
    import keras

    import effnet_tf

    if who.startswith("model_fn"):
        model = effnet_tf.model_fn(
            variant, CLASSES, input_shape=(size, size, 3), classifier_activation=None
        )
        effnet_tf.set_remat(model, who.partition(":")[2] or "none")
        return model
    home = keras.applications if who == THEIRS else effnet_tf
    build = getattr(home, f"EfficientNet{variant.upper()}")
    return build(
        weights=None, input_shape=(size, size, 3), classes=CLASSES, classifier_activation=None
    )


def step_of(who, options):
    """Returns a compiled training step on one batch of noise."""
    if who in torch_step.WHO:
        return torch_step.step_of(who, options.variant, options.size, options.batch)
    import keras
    import numpy as np
    import tensorflow as tf

    import effnet_tf

    keras.utils.set_random_seed(0)
    shape = (options.batch, options.size, options.size, 3)
    images = tf.constant(np.random.default_rng(0).uniform(0, 255, shape).astype("float32"))
    labels = tf.range(options.batch) % CLASSES
    model = network(who, options.variant, options.size)
    home = keras.optimizers if who == THEIRS else effnet_tf
    optimizer = home.RMSprop(1e-3, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def measured(who, options):
    """Times steps in this process: what a round is about."""
    step = step_of(who, options)
    start = time.process_time()
    step().numpy()
    first = time.process_time() - start
    step().numpy()
    start = time.process_time()
    for _ in range(options.steps):
        loss = step()
    loss = float(loss)
    seconds = (time.process_time() - start) / options.steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "first": first, "mib": peak, "loss": loss}


def apart(who, options):
    """Returns what `measured` does in a process of its own."""
    numbers = ("size", "batch", "steps", "variant")
    arguments = [f"--{name}={getattr(options, name)}" for name in numbers]
    done = subprocess.run(
        [sys.executable, __file__, f"--measure={who}", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def spread(values):
    """Returns median, lowest and highest."""
    rounded = [round(value, 3) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "lowest", "highest"), rounded))


def row(who, found):
    """Returns a row of the results: medians, and ratios of the same rounds."""
    ours, theirs = found[who], found[THEIRS]
    result = {"who": who}
    for name in ("seconds", "first", "mib"):
        result[name] = round(statistics.median(each[name] for each in ours), 3)
    result["speed"] = spread([b["seconds"] / a["seconds"] for a, b in zip(ours, theirs)])
    result["memory"] = spread([a["mib"] / b["mib"] for a, b in zip(ours, theirs)])
    return result


def rounds(options):
    """Takes turns; returns the rows, theirs first."""
    who = [THEIRS, *(options.who or OURS)]
    found = {each: [] for each in who}
    for number in range(options.rounds):
        for each in who[:: -1 if number % 2 else 1]:
            found[each].append(apart(each, options))
            print(f"round {number + 1} of {options.rounds}: {each} {found[each][-1]}", flush=True)
    return [row(each, found) for each in who]


def parsed():
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="b0", help="of keras.applications, too: b0 to b7")
    parser.add_argument("--size", type=int, default=128, help="side of the images, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--steps", type=int, default=8, help="that are timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--who", nargs="*", help=f"beside {THEIRS}; by default {' '.join(OURS)}")
    parser.add_argument("--out", default="training_step", help="name of the JSON file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Measures, prints the rows, writes the results."""
    options = parsed()
    peers = torch_step.packages(options.who or OURS)
    extras.require_or_exit("This benchmark", "tensorflow", "keras", *peers)
    if options.measure:
        print(json.dumps(measured(options.measure, options)))
        return
    rows = rounds(options)
    for each in rows:
        print(json.dumps(each))
    asked = {name: getattr(options, name) for name in ("variant", "size", "batch", "rounds")}
    (RESULTS / f"{options.out}.json").write_text(
        json.dumps({**asked, "rows": rows}, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
