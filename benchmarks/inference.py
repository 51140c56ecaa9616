"""How long does a network take to answer, in each form, beside keras.applications?

    pip install 'effnet_tf[cpu,plots]'
    python benchmarks/inference.py                       # about 8 minutes on 2 cores
    python benchmarks/inference.py --variant b3 --forms "TFLite, float"

Theirs is what a user would take instead: `keras.applications.EfficientNetB0` as it is, in a
`tf.function`, by its `model.export()`, and what `tf.lite.TFLiteConverter` makes of it for a fixed
batch: float, with weights of 8 bits (its dynamic range) and in integers (calibrated on noise). Ours
is `model_fn`, written by `effnet_tf.export`. Weights are random, which costs the same.

For every number of threads and images there is a process of its own, in which all take turns, every
other round backwards. Times are milliseconds of the clock for one call; a ratio is ours divided by
theirs in the same round. "pieces" says how XNNPACK, TFLite's delegate, took the float file: how
many operators, in how many pieces, of how many. Writes inference.json beside this file, and
docs/images/inference.png.
"""

import argparse
import functools
import itertools
import json
import os
import pathlib
import tempfile
import time

import pairs  # beside this file

from effnet_tf import extras

SIDES = ("ours", "theirs")
KERAS_FORMS = ("eager", "tf.function")
LITE_FORMS = {"TFLite, float": "none", "TFLite, 8-bit weights": "weights8", "TFLite, int8": "int8"}
FORMS = (*KERAS_FORMS, "SavedModel", *LITE_FORMS)
WARM_UP = 3  # rounds


def network(who, variant, batch=None):
    """Returns a new network for images of its own size, in batches of `batch` if that is given."""
    import keras

    import effnet_tf

    if who == "ours":
        return effnet_tf.model_fn(variant)
    side = effnet_tf.variants.find_variant(variant).resolution
    image = keras.Input((side, side, 3), batch_size=batch)
    build = getattr(keras.applications, f"EfficientNet{variant.upper()}")
    model = build(weights=None, input_tensor=image)
    # What comes with weights; without any it does nothing, and vanishes from files.
    kind = keras.layers.Normalization
    (constants,) = (layer for layer in model.layers if isinstance(layer, kind))
    constants.adapt_mean.assign([0.485, 0.456, 0.406])
    constants.adapt_variance.assign([0.229**2, 0.224**2, 0.225**2])
    constants.finalize_state()
    return model


def noise(shape):
    """Returns seeded pixels, float32 in [0, 255]."""
    import numpy as np

    return np.random.default_rng(0).uniform(0, 255, shape).astype("float32")


# --- files -----------------------------------------------------------------------------------


def place(folder, side, form, batch=""):
    """Returns where the file of a form lies."""
    return os.path.join(folder, f"{side} {form} {batch}".strip())


def write(folder, options):
    """Writes the files of both sides; returns what `pieces` says of them."""
    from effnet_tf import export

    for side in SIDES:
        if "SavedModel" in options.forms:
            model, path = network(side, options.variant), place(folder, side, "SavedModel")
            if side == "ours":
                export.to_saved_model(model, path)
            else:
                model.export(path, verbose=False)
        for batch in options.batches:
            for form in set(options.forms) & set(LITE_FORMS):
                path = place(folder, side, form, batch)
                kind = LITE_FORMS[form]
                {"ours": write_ours, "theirs": write_theirs}[side](path, kind, batch, options)
    return pieces(folder, options)


def pieces(folder, options):
    """Returns {side: [operators that XNNPACK takes, in how many pieces, of how many]}."""
    from effnet_tf.export.tflite import interpreter

    form, batch = "TFLite, float", options.batches[0]
    if form not in options.forms:
        return {}
    return {side: interpreter.delegation_of(place(folder, side, form, batch)) for side in SIDES}


def write_ours(path, kind, batch, options):
    """Writes a TFLite file as effnet_tf does. How weights are rounded does not tell on time."""
    from effnet_tf import export

    wanted = {"quantize": kind, "batch": batch}
    if kind != "none":
        wanted["effort"] = "quick"
    model = network("ours", options.variant)
    calibration = None
    if kind == "int8":
        calibration = noise((8, *model.input_shape[1:]))
    export.to_tflite(model, path, calibration=calibration, **wanted)


def write_theirs(path, kind, batch, options):
    """Writes what TensorFlow's converter makes of the network alone."""
    import tensorflow as tf

    model = network("theirs", options.variant, batch)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "int8":
        images = noise((8, *model.input_shape))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image] for image in images)
    pathlib.Path(path).write_bytes(converter.convert())


# --- measuring, in a process of its own ------------------------------------------------------


def contender(folder, side, form, images, options):
    """Returns a function that computes the scores of some images."""
    import tensorflow as tf

    if form in LITE_FORMS:
        from effnet_tf.export.tflite import interpreter

        data = pathlib.Path(place(folder, side, form, len(images))).read_bytes()
        return functools.partial(interpreter.Classifier(data, threads=options.threads[0]), images)
    images = tf.constant(images)
    if form == "SavedModel":
        return served(tf.saved_model.load(place(folder, side, form)), images)
    call = functools.partial(network(side, options.variant), training=False)
    if form == "tf.function":
        call = tf.function(call)
    return lambda: call(images).numpy()


def served(module, images):
    """Returns a function that asks `serving_default` of a SavedModel."""
    (name,) = module.signatures["serving_default"].structured_input_signature[1]

    def call():  # holds the module, which holds the variables
        answer = module.signatures["serving_default"](**{name: images})
        return [each.numpy() for each in answer.values()]

    return call


def measure(folder, options):
    """Returns {form: `pairs.compared` of milliseconds for a call}, in this process."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads[0])
    tf.config.threading.set_inter_op_parallelism_threads(options.threads[0])
    images = noise((options.batches[0], *network("ours", options.variant).input_shape[1:]))
    found = {}
    for form in options.forms:
        calls = {side: contender(folder, side, form, images, options) for side in SIDES}
        found[form] = pairs.compared(**in_turns(calls, options.rounds))
    return found


def in_turns(calls, rounds):
    """Returns {side: milliseconds of every round}."""
    times = {side: [] for side in SIDES}
    for number in range(WARM_UP + rounds):
        for side in pairs.turns(SIDES, number):
            start = time.perf_counter()
            calls[side]()
            if number >= WARM_UP:
                times[side].append(1000 * (time.perf_counter() - start))
    return times


# --- the program -----------------------------------------------------------------------------


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--variant", default="b0", help="of keras.applications, too: b0 to b7")
    parser.add_argument("--forms", nargs="+", default=FORMS, choices=FORMS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8], help="images per call")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)  # of a process of its own
    return parser.parse_args()


def main():
    """Measures, prints the rows, writes results and picture."""
    options = parse()
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "matplotlib")
    if options.step:
        step, folder = options.step
        print("\n" + json.dumps({"write": write, "measure": measure}[step](folder, options)))
        return
    rows = []
    same = ["--variant", options.variant, "--rounds", options.rounds, "--forms", *options.forms]
    with tempfile.TemporaryDirectory() as folder:
        found = pairs.apart(
            __file__, *same, "--batches", *options.batches, "--step", "write", folder
        )
        for threads, batch in itertools.product(options.threads, options.batches):
            alone = ["--threads", threads, "--batches", batch, "--step", "measure", folder]
            for form, figures in pairs.apart(__file__, *same, *alone).items():
                rows.append({"form": form, "threads": threads, "images": batch, **figures})
                print(rows[-1], flush=True)
    pairs.save("inference", rows, variant=options.variant, rounds=options.rounds, pieces=found)
    pairs.picture("inference", title_of(options), {label(row): row["ratio"] for row in rows})


def title_of(options):
    """Returns what stands above the picture."""
    return f"{options.variant}: time of a call beside keras.applications, batch and threads"


def label(row):
    """Returns the name of a row in the picture."""
    return f"{row['form']}, {row['images']} × {row['threads']}"


if __name__ == "__main__":
    main()
