"""How much TPU memory does a training step need, beside keras.applications' networks?

    pip install 'effnet_tf[cpu,tpu-check]'
    python benchmarks/tpu_memory.py                 # about 20 minutes on 2 cores
    python benchmarks/tpu_memory.py --full --only b0    # also FLOPs and bytes; 20 minutes each

Both columns are compiled by the same libtpu for the same topology, over 8 replicas in
mixed_bfloat16 with synchronised batch norm. Ours is the step that train_tpu.py runs; theirs
is `keras.Model.train_step` with RMSprop, Keras' own moving average and L2 on the kernels.
Writes tpu_memory.json beside this file, and prints the README's table.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this checkout's effnet_tf and tools

from effnet_tf import extras  # noqa: E402
from effnet_tf.recipes import Recipe  # noqa: E402
from tools import tpu_stages  # noqa: E402
from tools.tpu_chips import REPLICAS  # noqa: E402
from tools.tpu_compiler import Refused  # noqa: E402

RESULTS = HERE / "tpu_memory.json"
TOPOLOGY = "v5e:2x4"
TIME_LIMIT = 2 * 60 * 60  # seconds, of one step

# Network, images per replica, the class of keras.applications.
ROWS = (("b0", 128, "EfficientNetB0"), ("b4", 64, "EfficientNetB4"), ("lite0", 128, None))


def keras_step(strategy, settings):
    """Returns the step of `keras.Model.fit` on a keras.applications network, see `trace`."""
    import keras
    import tensorflow as tf

    keras.config.set_dtype_policy("mixed_bfloat16")
    with strategy.scope():
        model = getattr(keras.applications, settings["network"])(
            weights=None, classifier_activation=None
        )
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        for variable in model.trainable_variables:
            if "kernel" in variable.name:
                variable.regularizer = keras.regularizers.L2(5e-6)
        model.compile(
            keras.optimizers.RMSprop(
                0.016,
                rho=0.9,
                momentum=0.9,
                epsilon=1e-3,
                use_ema=True,
                ema_momentum=0.9999,
                ema_overwrite_frequency=None,
            ),
            keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
            metrics=["accuracy"],
            jit_compile=False,
        )
    count, size = settings["images"], model.input_shape[1]
    specs = (
        tf.TensorSpec((count, size, size, 3), tf.uint8),
        tf.TensorSpec((count, 1000), tf.float32),
    )
    with strategy.scope():
        model._symbolic_build(
            data_batch=tuple(tf.zeros((1, *spec.shape[1:]), spec.dtype) for spec in specs)
        )
    return model.train_step, specs, model.count_params()


def measure(network, images, keras_name, full):
    """Returns one entry of the results: the figures of ours and of Keras'."""
    common = {"topology": TOPOLOGY, "full": full, "time_limit": TIME_LIMIT, "step": "train"}
    recipe = Recipe(variant=network, batch_size=images * REPLICAS, bn_sync="all")
    entry = {"network": network, "images_per_replica": images, "topology": TOPOLOGY}
    print(f"{network}, effnet_tf:", flush=True)
    entry["effnet_tf"] = _figures(
        common | {"recipe": dataclasses.asdict(recipe)}, "tools.fake_tpu:training_step"
    )
    if keras_name:
        print(f"{network}, keras.applications:", flush=True)
        entry["keras"] = _figures(
            common | {"network": keras_name, "images": images}, "benchmarks.tpu_memory:keras_step"
        )
    return entry


def _figures(settings, make_step):
    try:
        return tpu_stages.check(settings, make_step)
    except Refused as refusal:
        return {"refused": str(refusal)}


def table(results):
    """Returns the Markdown table of the results."""
    lines = [
        "| network | images per replica | effnet_tf | keras.applications |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['network']} | {row['images_per_replica']} | {_cell(row['effnet_tf'])} | "
        f"{_cell(row['keras']) if 'keras' in row else 'has no such network'} |"
        for row in results["rows"]
    ]
    return "\n".join(lines)


def _cell(figures):
    if "refused" in figures:
        return "does not fit"
    text = f"{figures['total_mib']:,.0f} MiB, {figures['all_reduces_compiled']} all-reduces"
    if "bytes_accessed" in figures:
        text += (
            f", {figures['bytes_accessed'] / 1e9:.1f} GB and {figures['flops'] / 1e12:.3f} "
            "TFLOP per step"
        )
    return text


def main():
    """Measures the rows, one compilation at a time; keeps those measured before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="see tools/tpu_check.py")
    parser.add_argument("--only", help="measure this network, keep the figures of the others")
    options = parser.parse_args()
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "jax", "libtpu")
    old = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    rows = {row["network"]: row for row in old}
    for row in ROWS:
        if options.only in (None, row[0]):
            rows[row[0]] = measure(*row, options.full)
            results = {
                "versions": {
                    name: importlib.metadata.version(name) for name in ("jax", "libtpu", "keras")
                },
                "rows": list(rows.values()),
            }
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders are removed
    main()
