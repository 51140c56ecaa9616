"""Which conversions run in a process of their own? See isolated.py for why.

Functions of paths: from a SavedModel or a float32 TFLite file to another TFLite file.
"""

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from effnet_tf import isolated
from effnet_tf.export import judging, staging
from effnet_tf.export.tflite import integers

COMPARED = 64  # calibration images that tell how good an int8 file is
SEARCHED = 16  # of them, for each of many files, to find what must stay in float


def convert(saved_model, out, quantize):
    """Writes a SavedModel as a TFLite file: "none", "float16" or "dynamic"."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    staging.write(out, converter.convert())


def int16x8(saved_model, out, images, batch):
    """Writes a SavedModel as a TFLite file of 16-bit activations and 8-bit weights."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]
    converter.representative_dataset = lambda: ([x] for x in batches(images, batch, shown=True))
    staging.write(out, converter.convert())


def int8(float_file, out, images, batch, io, takes_pixels, keep_float=(), target_sqnr=None):
    """Writes a float TFLite file as an int8 one.

    Args:
        takes_pixels: whether the file takes pixels in [0, 255].
        keep_float: names of blocks that stay float, or "auto": few that reach
            `target_sqnr`, in dB.

    Returns:
        A dict: the `sqnr` of its logits on some of the images, in dB, the `names` of what
        stayed float, and their `price`, a sentence or None.
    """
    data, pixels = staging.read(float_file), np.load(images)[:COMPARED]
    exact = judging.logits_of(data, pixels)

    def sqnr(file, count=COMPARED):
        return judging.sqnr(exact[:count], judging.logits_of(file, pixels[:count]))

    ranges = integers.calibrated(data, batches(images, batch, shown=True), takes_pixels)
    whole = integers.int8(ranges, io)
    file, names = whole, []
    if keep_float == "auto":
        file, names = integers.keep_float(
            ranges,
            io,
            lambda file: sqnr(file, SEARCHED),
            target_sqnr,
            lambda text: print(text, file=isolated.progress.terminal),
        )
    elif keep_float:
        names = integers.operators_of(data, keep_float)
        file = integers.int8(ranges, io, names)
    price = integers.price(whole, file) if names else None
    staging.write(out, file)
    return {"sqnr": sqnr(file), "names": names, "price": price}


def batches(path, size, shown=False):
    """Yields the float32 images of a .npy file in batches, with a bar if `shown`."""
    images = np.load(path, mmap_mode="r")
    bar = tqdm(
        total=len(images),
        desc="Calibrating",
        file=isolated.progress.terminal,
        unit=" images",
        disable=not shown,
    )
    with bar:
        for start in range(0, len(images), size):
            part = images[start : start + size]
            # The last batch is filled with its last image: the ranges stay what they are.
            yield np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)]).astype(
                "float32"
            )
            bar.update(len(part))
