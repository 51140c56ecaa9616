"""What agrees better with the float network than an int8 file that agrees too little, and at which
price?

Some blocks in float, activations of 16 bits, weights of 8 bits computed in float: each is made and
measured like the file itself.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_tf import isolated
from effnet_tf.errors import first_line
from effnet_tf.export import agreement, staging
from effnet_tf.export.offers import Offer
from effnet_tf.export.tflite import converter, flatbuffer, integers, measuring
from effnet_tf.export.tflite.options import Options

# Of the images; more than 1 of 10 with another best class is what users see. Real Lite networks
# lose more by plain rounding (docs/benchmarks.md), and less once they are rounded with care.
LOW_AGREEMENT = 0.9
KEPT = 3  # of the most costly blocks; with more in float, little is left of an int8 file
IMAGES = 64  # that a price is measured on
CALIBRATED = 16  # images for int16x8: steps so fine that ranges matter little, on slow kernels


def priced(
    source: str, blocks: Sequence[str], options: Options, images: np.ndarray, logits: np.ndarray
) -> list[Offer]:
    """Returns what may be written instead of an int8 file, measured in a process of its own.

    Args:
        source: the float32 .tflite file that it was made of, with calibration.npy and the
            SavedModel beside it.
        blocks: the most costly first.
        options: of the int8 file.
        images: (N, H, W, C) to compare on.
        logits: (N, classes) of the Keras model.
    """
    place = os.path.join(os.path.dirname(source), "offers.npz")
    np.savez(place, images=images[:IMAGES], logits=logits[:IMAGES])
    kept = list(blocks[:KEPT])
    if options.keep_float != "auto":  # those that the file has in float already stay so
        kept = list(dict.fromkeys([*options.keep_float, *kept]))
    arguments = {
        "source": source,
        "blocks": kept,
        "io": options.io,
        "batch": options.static_batch,
        "compared": place,
    }
    (found,) = isolated.call((price, arguments))
    return [Offer(**fields) for fields in found]


def price(source: str, blocks: Sequence[str], io: str, batch: int | None, compared: str) -> list:
    """Makes the files beside `source`; returns the fields of their `Offer`s, for JSON.

    Args:
        source: see `priced`.
        blocks: that stay in float in one of them.
        io: of the int8 file.
        batch: images per call; None: any number.
        compared: .npz file of `images` and of the float network's `logits`.
    """
    arrays, floats = dict(np.load(compared)), staging.read(source)
    folder = os.path.dirname(source)
    files, faults = {"--quantize weights8": flatbuffer.weights8(floats)}, []
    if blocks:
        files[f"--keep_float {','.join(blocks)}"] = _mixed(folder, floats, blocks, io, batch)
    try:
        files["--quantize int16x8"] = _int16x8(source, batch)
    except Exception as error:  # TensorFlow's converter has kinds of its own
        faults = [{"options": "--quantize int16x8", "fault": first_line(error)}]
    _, *ratios = measuring.latencies([floats, *files.values()])
    rows = zip(files.items(), ratios)
    return [_row(name, file, ratio, **arrays) for (name, file), ratio in rows] + faults


def _mixed(folder, floats, blocks, io, batch):
    """Returns an int8 file with blocks in float."""
    images = converter.batches(os.path.join(folder, "calibration.npy"), batch or 1)
    ranges = integers.calibrated(floats, images)
    return integers.int8(ranges, io, integers.operators_of(floats, blocks))


def _int16x8(source, batch):
    folder = os.path.dirname(source)
    few, out = (os.path.join(folder, name) for name in ("few.npy", "offered.tflite"))
    np.save(few, np.load(os.path.join(folder, "calibration.npy"), mmap_mode="r")[:CALIBRATED])
    converter.int16x8(source.removesuffix(".tflite"), out, few, batch or 1, shown=False)
    return staging.read(out)


def _row(name, file, ratio, images, logits) -> dict[str, Any]:
    found = measuring.logits_of(file, images)
    decibels = float(measuring.sqnr(logits, found))
    return {
        "options": name,
        "agreement": agreement.shared_best(logits, found, 1),
        "sqnr_db": None if np.isinf(decibels) else round(decibels, 2),
        "size_bytes": len(file),
        "latency_ratio": ratio,
    }
