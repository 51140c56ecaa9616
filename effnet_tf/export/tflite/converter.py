"""Which conversions run in a process of their own? See isolated.py for why.

Functions of paths: from a SavedModel or a float32 TFLite file to another TFLite file.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from effnet_tf import isolated, progress
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import staging
from effnet_tf.export.tflite import integers, interpreter, measuring, narrowing
from effnet_tf.export.tflite.options import TARGET_SQNR

COMPARED = 64  # calibration images that tell how good an int8 file is
SEARCHED = 16  # of them, for each of many files, to find what must stay in float
SMALLEST = 1e-3  # deviation of scores; below it, rounding of float32 would look large


def convert(saved_model: str, out: str, quantize: str) -> float | None:
    """Writes a SavedModel as a TFLite file: "none", "float16" or "dynamic".

    Returns:
        Of "none", what `difference` returns.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    staging.write(out, converter.convert())
    if quantize == "none":
        return difference(saved_model, out)
    return None


def difference(saved_model: str, out: str) -> float:
    """Returns how far the scores of a float file are off at most, in their standard deviations.

    Args:
        saved_model: that it was made of; beside it, with the suffix .npz, lie `images` and the
            `scores` that the network gives for them.
        out: the file.
    """
    answer = np.load(f"{saved_model}.npz")
    (found,) = interpreter.Classifier(staging.read(out))(answer["images"])
    deviation = max(float(answer["scores"].std()), SMALLEST)
    return float(np.abs(found - answer["scores"]).max()) / deviation


def int16x8(saved_model: str, out: str, images: str, batch: int, shown: bool = True) -> None:
    """Writes a SavedModel as a TFLite file of 16-bit activations and 8-bit weights.

    Args:
        saved_model: its directory.
        out: file to write.
        images: .npy file of (N, H, W, C) images to calibrate on.
        batch: images per call of the file.
        shown: whether a person is told how far it is.

    Raises:
        InputError: an operator of the network has no form of 16 bits, as HARD_SWISH.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    ]
    converter.representative_dataset = lambda: ([x] for x in batches(images, batch, shown))
    try:
        data = converter.convert()
    except RuntimeError as error:
        if "16x8" not in first_line(error):
            raise
        raise InputError(
            f"quantize 'int16x8' is not for this network, says TensorFlow: {first_line(error)}. "
            "Use 'weights8' or 'int8'."
        ) from error
    staging.write(out, data)


def int8(
    float_file: str,
    out: str,
    images: str,
    batch: int,
    io: str,
    takes_pixels: bool,
    keep_float: Sequence[str] | str = (),
    target_sqnr: float = TARGET_SQNR,
    narrow: bool = False,
    shown: bool = True,
) -> dict:
    """Writes a float TFLite file as an int8 one.

    Args:
        float_file: the float32 .tflite file.
        out: file to write.
        images: .npy file of (N, H, W, C) images to calibrate on.
        batch: images per call of the file.
        io: type of its input and output: "float", "int8" or "uint8".
        takes_pixels: whether the file takes pixels in [0, 255].
        keep_float: names of blocks that stay float, or "auto": few that reach
            `target_sqnr`, in dB.
        target_sqnr: for "auto".
        narrow: whether narrower ranges of activations are tried, and kept where they do better.
        shown: whether a person is told how far it is.

    Returns:
        A dict: the `sqnr` of its logits on some of the images, in dB, the `names` of what
        stayed float, and their `price`, a sentence or None.
    """
    data, pixels = staging.read(float_file), np.load(images)[:COMPARED]
    exact = measuring.logits_of(data, pixels)

    def sqnr(file, count=COMPARED):
        return measuring.sqnr(exact[:count], measuring.logits_of(file, pixels[:count]))

    def say(text):
        with progress.line(file=isolated.progress.terminal, shown=shown) as line:
            line.say(text)

    ranges = integers.calibrated(data, batches(images, batch, shown), takes_pixels)
    if narrow:
        narrower = _narrowed(ranges, images, shown)
        ranges = max(ranges, narrower, key=lambda ranges: sqnr(integers.int8(ranges, io)))
    whole = integers.int8(ranges, io)
    file, names, price = whole, [], None
    if keep_float == "auto":
        file, names = integers.keep_float(
            ranges, io, lambda file: sqnr(file, SEARCHED), target_sqnr, say
        )
    elif keep_float:
        names = integers.operators_of(data, keep_float)
        file = integers.int8(ranges, io, names)
    if names:
        price = integers.price(whole, file)
    staging.write(out, file)
    return {"sqnr": sqnr(file), "names": names, "price": price}


def _narrowed(ranges, images, shown):
    """Returns a calibrated file with ranges that were searched for; shows how far that is."""
    pixels = narrowing.chosen(np.load(images, mmap_mode="r"))
    terminal = isolated.progress.terminal
    with progress.bar("Trying ranges", unit="tensors", file=terminal, shown=shown) as bar:
        return narrowing.narrowed(ranges, pixels, progress.shown_by(bar))


def batches(path: str, size: int, shown: bool = False) -> Iterator[np.ndarray]:
    """Yields the float32 images of a .npy file in batches (size, H, W, C), with a bar if `shown`.

    The last batch is filled up with its last image: the ranges stay what they are.
    """
    images = np.load(path, mmap_mode="r")
    terminal = isolated.progress.terminal
    with progress.bar("Calibrating", len(images), file=terminal, shown=shown) as bar:
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filling = np.repeat(part[-1:], size - len(part), 0)
            yield np.concatenate([part, filling]).astype("float32")
            bar.update(len(part))
