"""What does our int8 win back where the ranges of channels differ, and no ImageNet is at hand?

    python benchmarks/int8.py                # about 20 minutes on 2 cores
    python benchmarks/int8.py --runs runs    # keeps the two trained runs there, or takes them

Trains a small swish and squeeze-excite network and its Lite twin (relu6, no SE) on
scikit-learn's 1,797 handwritten digits, folds batch norm, and writes them as full-integer
TFLite files, calibrated on the same images: by `tf.lite.TFLiteConverter` alone, and by
`effnet_tf.export.to_tflite`, without and with corrected biases. It writes the better, on the
calibration images, of the network as it is and with equalised ranges; "written" says which.
Then the same after a stress: every channel between linear layers is divided by a random
factor and multiplied by it afterwards, as in trained networks of other origin; the float
function stays. The figures are over the held-out images, against the float network: signal
to quantisation noise of the logits, centred per image (dB), same best class, and accuracy.
Digits say nothing of the accuracy on ImageNet. Writes int8.json beside this file.
"""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from effnet_tf import extras  # noqa: E402

extras.require_or_exit("This benchmark", "tensorflow", "keras", "sklearn")

import numpy as np  # noqa: E402
import pairs  # noqa: E402  (beside this file)
import tensorflow as tf  # noqa: E402

import effnet_tf  # noqa: E402
from effnet_tf import data, export, train  # noqa: E402
from effnet_tf.data import batches  # noqa: E402
from effnet_tf.export import folding
from effnet_tf.export.tflite import linking, measuring  # noqa: E402

RESULTS = pathlib.Path(__file__).resolve().parent / "int8.json"
NETWORKS = {"swish and SE": "b0", "Lite (relu6)": "lite0"}
RECIPE = dataclasses.replace(effnet_tf.RECIPES["digits"], image_size=48, epochs=12)
CALIBRATION = 500  # fewer miss the largest values, and int8 clips them on other images
OCTAVES = {"b0": 4.0, "lite0": 2.6}  # a factor is 2**u, u uniform within plus and minus these
SEEDS = (0, 1, 2)
GOALS = {
    "stress costs stock": "16 to 18 dB",
    "won back": "at least 12 dB of them",
    "beside stock without stress": "at least -0.5 dB",
}


# --- the networks --------------------------------------------------------------------------


def trained(variant, runs):
    """Returns the folded network of a run, without softmax, and its `About`; trains it first."""
    recipe = dataclasses.replace(RECIPE, variant=variant)
    workdir = os.path.join(runs, variant)
    if not os.path.exists(os.path.join(workdir, "result.json")):
        train.run(recipe, workdir)
    model = effnet_tf.model_fn(recipe.resolved_variant(), 10, classifier_activation=None)
    effnet_tf.load_weights(model, workdir)
    return folding.fold(model), export.describe(model)


def stress(model, seed, octaves):
    """Rescales the channels of every link at random; the float function stays."""
    random = np.random.default_rng(seed)
    for link in linking.links(model):
        link.scale(2 ** random.uniform(-octaves, octaves, link.tensors[0].shape[-1]))


def images_of(source, records, count):
    """Returns (images (N, H, W, C) in [0, 255], labels (N,)) as the evaluation sees them."""
    source = dataclasses.replace(source, held_out=records)
    dataset = batches.evaluation(source, RECIPE, RECIPE.image_size, count, 1)
    batch = next(dataset.as_numpy_iterator())
    return np.clip(batch["images"], 0, 255), batch["labels"]


# --- conversion ----------------------------------------------------------------------------


class _Serving(tf.Module):
    def __init__(self, model):
        super().__init__()
        self.weights = [variable.value for variable in model.weights]
        spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="images")
        self.serve = tf.function(lambda images: {"logits": model(images, training=False)}, [spec])


def converted(folder, calibration):
    """Returns what TensorFlow's converter makes of a SavedModel."""
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
    return converter.convert()


def stock(model, folder, calibration, _):
    """Returns the bytes of TensorFlow's int8 file, and what it was made of."""
    module = _Serving(model)
    tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
    # The converter leaks hundreds of megabytes each time.
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ) as process:
        return process.submit(converted, folder, calibration).result(), "as it is"


def ours(model, folder, calibration, about, effort=None):
    """Returns the bytes of our int8 file, and what it was made of."""
    path = os.path.join(folder, "model.tflite")
    report = export.to_tflite(
        model,
        path,
        quantize="int8",
        calibration=calibration,
        about=about,
        equalize=True,
        effort=effort,
    )
    return pathlib.Path(path).read_bytes(), "equalised" if report.layers_before else "as it is"


EXPORTERS = {
    "TFLiteConverter": stock,
    "effnet_tf": ours,
    "effnet_tf, thorough": functools.partial(ours, effort="thorough"),
}


# --- figures -------------------------------------------------------------------------------


def rows_of(variant, runs):
    """Yields the rows of one network: without stress, and with each seed's."""
    source = data.open_source(RECIPE)
    calibration, _ = images_of(source, source.train, CALIBRATION)
    images, labels = images_of(source, source.held_out, source.held_out.count)
    model, about = trained(variant, runs)
    weights, exact = model.get_weights(), model.predict(images, verbose=0)
    for seed in (None, *SEEDS):
        model.set_weights(weights)
        if seed is not None:
            stress(model, seed, OCTAVES[variant])
        change = np.abs(model.predict(images, verbose=0) - exact).max() / exact.std()
        for how, exporter in EXPORTERS.items():
            with tempfile.TemporaryDirectory() as folder:
                file, written = exporter(model, folder, calibration, about)
            logits = measuring.logits_of(file, images)
            yield {
                "variant": variant,
                "stress_seed": seed,
                "how": how,
                "written": written,
                "sqnr_db": round(float(measuring.sqnr(exact, logits)), 2),
                "agreement": round(float((exact.argmax(-1) == logits.argmax(-1)).mean()), 4),
                "top1": round(float((logits.argmax(-1) == labels).mean()), 4),
                "float_top1": round(float((exact.argmax(-1) == labels).mean()), 4),
                "float_change_of_stress": float(f"{change:.1e}"),
            }


def mean(rows, key, variant, how, stressed):
    return float(
        np.mean(
            [
                row[key]
                for row in rows
                if row["variant"] == variant
                and row["how"] == how
                and (row["stress_seed"] is not None) == stressed
            ]
        )
    )


def table(rows):
    """Returns a Markdown table, the seeds of the stress averaged."""
    lines = [
        f"| logit SQNR, same class, top-1 | float | {' | '.join(EXPORTERS)} |",
        "|---" * (2 + len(EXPORTERS)) + "|",
    ]
    for name, variant in NETWORKS.items():
        for stressed in (False, True):
            cells = [
                "{:.1f} dB, {:.1%}, {:.1%}".format(
                    *(
                        mean(rows, key, variant, how, stressed)
                        for key in ("sqnr_db", "agreement", "top1")
                    )
                )
                for how in EXPORTERS
            ]
            exact = mean(rows, "float_top1", variant, "effnet_tf", stressed)
            lines.append(f"| {name}{', stressed' * stressed} | {exact:.1%} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(rows):
    """Returns {network: what the stress costs and what ours win, in dB, per seed}."""
    found = {}
    for variant in NETWORKS.values():
        whole, *stressed = (
            {
                row["how"]: row["sqnr_db"]
                for row in rows
                if row["variant"] == variant and row["stress_seed"] == seed
            }
            for seed in (None, *SEEDS)
        )
        base = next(iter(EXPORTERS))
        found[variant] = {
            "stress costs stock": [round(whole[base] - sqnr[base], 2) for sqnr in stressed],
            **{
                how: {
                    "won back": [round(sqnr[how] - sqnr[base], 2) for sqnr in stressed],
                    "beside stock without stress": round(whole[how] - whole[base], 2),
                }
                for how in EXPORTERS
                if how != base
            },
        }
    return found


def main():
    """Measures, prints the table, writes the results."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--runs", help="folder for the trained runs; by default a temporary one")
    options = parser.parse_args()
    start, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as temporary:
        for variant in NETWORKS.values():
            for row in rows_of(variant, options.runs or temporary):
                rows.append(row)
                print(*row.values(), flush=True)
    results = {
        "command": " ".join(["python", *sys.argv]),
        **pairs.machine(),
        "images": "handwritten digits of scikit-learn",
        "image_size": RECIPE.image_size,
        "epochs": RECIPE.epochs,
        "calibration_images": CALIBRATION,
        "octaves": OCTAVES,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "goals": GOALS,
        "gains_db": gains(rows),
        "rows": rows,
    }
    print(table(rows), json.dumps(results["gains_db"], indent=2), sep="\n\n")
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
