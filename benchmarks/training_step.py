r"""What does a training step cost in time and memory, beside keras.applications?

    pip install 'effnet_tf[cpu,plots]'
    python benchmarks/training_step.py                        # about 4 minutes on 2 cores
    python benchmarks/training_step.py --size 224 --batch 32 --steps 3 \
        --who model_fn model_fn:expansion model_fn:block      # the memory of a usual batch
    pip install 'effnet_tf[cpu,peers]'
    python benchmarks/training_step.py --who model_fn timm timm:channels_last timm:compile

Theirs is what a user would take instead: `keras.applications.EfficientNetB0`, Keras' RMSprop and a
`tf.function` of a gradient and its application. Ours is the same function around `model_fn`, or
around the drop-in constructor, with our RMSprop; "model_fn:expansion" has `set_remat`. They take
turns, every other round backwards, each time in a process of its own. Time is CPU seconds of the
process, user and system, per step after the first two; memory is the most that the operating system
has seen the process hold, about 0.9 GB of which TensorFlow holds before the first step. A ratio is
ours divided by theirs in the same round. There is no Lite network of theirs: beside it is the B
network of the same size. Writes training_step.json beside this file, which keeps what other
commands have measured, and docs/images/training_step.png.
"""

import argparse
import json
import resource
import statistics
import time

import pairs  # beside this file, as the next
import torch_step
from pairs import THEIRS

from effnet_tf import extras

RESULTS = pairs.HERE / "training_step.json"
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
    home, name = effnet_tf, variant.upper().replace("LITE", "Lite")
    if who == THEIRS:
        home, name = keras.applications, name.replace("Lite", "B")
    return getattr(home, f"EfficientNet{name}")(
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
    return pairs.apart(__file__, f"--measure={who}", *arguments)


def row(who, found):
    """Returns a row of the results: medians, and ratios of the same rounds."""
    ours, theirs = found[who], found[THEIRS]
    result = {"who": who}
    for name in ("seconds", "first", "mib"):
        result[name] = round(statistics.median(each[name] for each in ours), 3)
    for name, ratio in (("time", "seconds"), ("memory", "mib")):
        result[name] = pairs.spread([a[ratio] / b[ratio] for a, b in zip(ours, theirs)])
    return result


def rounds(options):
    """Takes turns; returns the rows, theirs first."""
    who = [THEIRS, *options.who]
    found = {each: [] for each in who}
    for number in range(options.rounds):
        for each in pairs.turns(who, number):
            found[each].append(apart(each, options))
            print(f"round {number + 1} of {options.rounds}: {each} {found[each][-1]}", flush=True)
    return [row(each, found) for each in who]


def save(rows, options):
    """Writes a run's rows beside those of other settings; draws all of them."""
    asked = {name: getattr(options, name) for name in ("variant", "size", "batch", "rounds")}
    new = {"command": pairs.command("training_step"), **pairs.machine(), **asked, "rows": rows}
    runs = {each["command"]: each for each in json.loads(RESULTS.read_text(encoding="utf-8"))}
    runs[new["command"]] = new
    RESULTS.write_text(json.dumps(list(runs.values()), indent=2) + "\n", encoding="utf-8")
    bars = {}
    for run in runs.values():
        for each in run["rows"][1:]:
            label = f"{run['variant']}, {run['size']} px, {run['batch']} images: {each['who']}"
            for name in ("time", "memory"):
                bars.setdefault(f"{label}, {name}", each[name])  # of several runs' the first
    pairs.picture("training_step", "A training step beside keras.applications", bars)


def parsed():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--variant", default="b0", help="b0 to b7, lite0 to 4")
    parser.add_argument("--size", type=int, default=128, help="side of the images, in pixels")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--steps", type=int, default=8, help="that are timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--who", nargs="*", default=OURS, help=f"beside {THEIRS}")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Measures, prints the rows, writes the results."""
    options = parsed()
    needed = ("tensorflow", "keras", "matplotlib", *torch_step.packages(options.who))
    extras.require_or_exit("This benchmark", *needed)
    if options.measure:
        print(json.dumps(measured(options.measure, options)))
        return
    rows = rounds(options)
    for each in rows:
        print(json.dumps(each))
    save(rows, options)


if __name__ == "__main__":
    main()
