"""What does a training step cost on a GPU in bfloat16, beside keras.applications and timm?

    pip install 'effnet_tf[gpu,peers]'
    python benchmarks/gpu.py                                         # about 12 minutes
    python benchmarks/gpu.py --variants b0 --size 32 --batch 2 --steps 1      # on any device

The steps are those of training_step.py and torch_step.py, each in a process of its own: Keras under
its policy mixed_bfloat16, PyTorch under autocast. Time is milliseconds of the clock per step, after
three; memory is the most that the framework had in use on the GPU (without one, the process's).
What is not done after `--minutes` is ended, or not begun: its row says so. Writes gpu.json beside
this file.
"""

import argparse
import json
import resource
import subprocess
import time

import pairs  # beside this file, as the next two
import torch_step
import training_step

from effnet_tf import extras

WHO = (pairs.THEIRS, "model_fn", "constructor", "timm:channels_last", "timm:compile")
LARGEST = {"b0": 256, "b4": 64}  # images of 224 and 380 pixels that 16 GB of memory take
SIDES = {"b0": 224, "b4": 380}


def step_of(who, options):
    """Returns a training step in bfloat16, and a function that tells the memory it needed, MiB."""
    if who in torch_step.WHO:
        sizes = options.variant, options.size, options.batch
        return torch_step.step_of(who, *sizes, half=True), torch_step.memory_mib
    import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    return training_step.step_of(who, options), memory_mib


def memory_mib():
    """Returns the most memory of the GPU that TensorFlow used, in MiB; None without a GPU."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20


def measure(options):
    """Returns what steps cost, in this process."""
    step, memory = step_of(options.measure, options)
    for _ in range(3):
        float(step())  # waits for the device
    start = time.perf_counter()
    for _ in range(options.steps):
        loss = step()
    loss = float(loss)
    milliseconds = 1000 * (time.perf_counter() - start) / options.steps
    on_gpu = memory()
    peak = on_gpu or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"milliseconds": milliseconds, "mib": peak, "loss": loss, "gpu": on_gpu is not None}


def apart(who, variant, options, end):
    """Returns what `measure` does in a process of its own, or why it does not."""
    size, batch = options.size or SIDES[variant], options.batch or LARGEST[variant]
    given = {"variants": variant, "size": size, "batch": batch, "steps": options.steps}
    words = [f"--{name}={value}" for name, value in given.items()]
    row = {"who": who, "variant": variant, "size": size, "batch": batch}
    try:
        left = max(end - time.monotonic(), 1)
        return row | pairs.apart(__file__, *words, f"--measure={who}", timeout=left)
    except subprocess.TimeoutExpired:
        return row | {"not_measured": f"not done within {options.minutes:g} minutes"}


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--variants", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--who", nargs="+", default=WHO)
    parser.add_argument("--size", type=int, help="of the images; by default the variant's")
    parser.add_argument("--batch", type=int, help=f"images; by default {LARGEST}")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=13.0, help="for everything")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    (options.variant, *_) = options.variants  # of a process of its own there is one
    return options


def main():
    """Measures, prints the rows, writes the results after each."""
    options = parse()
    extras.require_or_exit(
        "This benchmark", "tensorflow", "keras", *torch_step.packages(options.who)
    )
    if options.measure:
        print("\n" + json.dumps(measure(options)))
        return
    rows, end = [], time.monotonic() + 60 * options.minutes
    for variant in options.variants:
        for who in options.who:
            rows.append(apart(who, variant, options, end))
            print(rows[-1], flush=True)
            pairs.save("gpu", rows)


if __name__ == "__main__":
    main()
