"""What does a training step take on a TPU, beside keras.applications' networks?

    pip install 'effnet_tf[cpu,tpu-check]'
    python benchmarks/tpu_step.py                          # 20 minutes on 2 cores
    python benchmarks/tpu_step.py --variant b3 --images 32 --precision float32
    python benchmarks/tpu_step.py --variant b4 --images 64 --largest_batch    # an hour or two

No TPU is needed: libtpu, the TPU's own compiler, compiles one of 8 replicas for a v5e, and says
what device memory it has assigned. Operations and bytes per step are what XLA's analysis of the
optimised program counts, transfers between the chip's memories included. Batch norm takes the
statistics of a replica. Ours is the step that train_tpu.py runs, with each --remat;
theirs is `keras.Model.train_step` with RMSprop, Keras' own moving average and L2 on the kernels.
Writes tpu_step.json beside this file, and keeps what other calls have measured.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib
import re
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this checkout's effnet_tf and tools

from effnet_tf import extras, variants  # noqa: E402
from effnet_tf.recipes import Recipe  # noqa: E402
from tools import tpu_check, tpu_stages  # noqa: E402
from tools.tpu_chips import REPLICAS  # noqa: E402
from tools.tpu_compiler import Refused  # noqa: E402

RESULTS = HERE / "tpu_step.json"
TOPOLOGY = "v5e:2x4"
TIME_LIMIT = 2 * 60 * 60  # seconds, of one step
PRECISIONS = ("mixed_bfloat16", "float32")
THEIRS = "keras.applications"


def keras_step(strategy, settings):
    """Returns the step of `keras.Model.fit` on a keras.applications network, see `trace`."""
    import keras
    import tensorflow as tf

    keras.config.set_dtype_policy(settings["precision"])
    with strategy.scope():
        model = getattr(keras.applications, settings["network"])(
            weights=None, classifier_activation=None
        )
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


def peer(variant):
    """Returns the name of the class in keras.applications, or None."""
    if re.fullmatch("b[0-7]", variant):
        return f"EfficientNet{variant.upper()}"
    return None


def measure(form, variant, images, precision):
    """Returns the figures of a step, or {"refused": why} where it does not fit.

    Args:
        form: `THEIRS`, or one of `variants.REMAT`.
        variant: name of the network.
        images: per replica.
        precision: one of `PRECISIONS`.
    """
    print(f"{variant}, {images} images, {precision}, {form}:", flush=True)
    settings = {"topology": TOPOLOGY, "full": False, "time_limit": TIME_LIMIT, "step": "train"}
    if form == THEIRS:
        settings |= {"network": peer(variant), "images": images, "precision": precision}
        make_step = "benchmarks.tpu_step:keras_step"
    else:
        recipe = Recipe(
            variant=variant,
            batch_size=images * REPLICAS,
            bn_sync="none",
            precision=precision,
            remat=form,
        )
        settings |= {"recipe": dataclasses.asdict(recipe)}
        make_step = "tools.fake_tpu:training_step"
    try:
        return tpu_stages.check(settings, make_step)
    except Refused as refusal:
        return {"refused": str(refusal)}


def largest(form, variant, images, precision):
    """Returns {"largest": how many images fit on a replica} and its figures; 0: not even 8."""
    tries = {}

    def fits(count):
        tries[count] = measure(form, variant, count, precision)
        return "refused" not in tries[count]

    most = tpu_check.largest_batch(fits, images)
    return {**tries.get(most, {}), "largest": most}


def table(rows):
    """Returns lines with the figures of all rows, and their ratios to keras.applications'."""
    lines = []
    for row in rows:
        figures = row["figures"]
        name = f"{row['network']}, {row['images']} images, {row['precision']}, {row['form']}"
        if "largest" in figures:
            lines.append(f"{name}: at most {figures['largest']} images fit")
        elif "refused" in figures:
            lines.append(f"{name}: does not fit")
        else:
            lines.append(f"{name}: {', '.join(_cells(figures, _theirs(row, rows)))}")
    return "\n".join(lines)


def _theirs(row, rows):
    """Returns the figures of keras.applications for the same step, or {}."""
    same = ("network", "images", "precision", "kind")
    for other in rows:
        if other["form"] == THEIRS and all(other[key] == row[key] for key in same):
            return other["figures"]
    return {}


def _cells(figures, theirs):
    units = {"total_mib": (1, "MiB"), "bytes_accessed": (1e9, "GB"), "flops": (1e12, "TFLOP")}
    for key, (unit, name) in units.items():
        text = f"{figures[key] / unit:,.3f} {name}"
        if key in theirs:
            text += f" ({figures[key] / theirs[key]:.3f})"
        yield text


def parse():
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variant", default="b0", help="any variant of model_fn")
    parser.add_argument("--images", type=int, default=128, help="on each replica")
    parser.add_argument("--precision", choices=PRECISIONS, nargs="+", default=PRECISIONS)
    forms = (THEIRS, *variants.REMAT)
    parser.add_argument("--forms", choices=forms, nargs="+", default=forms)
    parser.add_argument(
        "--largest_batch",
        action="store_true",
        help=f"find the most images that fit, from --images on, in {tpu_check.MOST_TRIES} tries",
    )
    return parser.parse_args()


def main():
    """Measures the steps, one compilation at a time."""
    options = parse()
    variants.resolve(options.variant)
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "jax", "libtpu")
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    kind = "largest" if options.largest_batch else "step"
    for precision in options.precision:
        for form in options.forms:
            if form == THEIRS and peer(options.variant) is None:
                continue
            what = (form, options.variant, options.images, precision)
            row = dict(zip(("form", "network", "images", "precision"), what), kind=kind)
            found = (largest if options.largest_batch else measure)(*what)
            rows = replaced(rows, row | {"figures": found})
            write(rows)
    print(table(rows))


def replaced(rows, row):
    """Returns the rows with a new one in the place of what was measured before, or at the end."""

    def step(each):
        return {name: value for name, value in each.items() if name != "figures"}

    places = [place for place, old in enumerate(rows) if step(old) == step(row)]
    for place in places:
        rows[place] = row
    if not places:
        rows.append(row)
    return rows


def write(rows):
    """Writes the results so far."""
    packages = ("jax", "libtpu", "keras", "tensorflow-cpu")
    held = {
        "topology": TOPOLOGY,
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders are removed
    main()
