"""What is done to the weights of a network before a file has them in 8 bits?

Ranges are equalised, and the weights rounded so that their errors cancel. Both are said, with the
images they were done for, and a bar shows how far they are.
"""

import keras
import numpy as np

from effnet_tf import progress
from effnet_tf.export.tflite import equalization, leaves, sweeping
from effnet_tf.export.tflite.options import Options
from effnet_tf.messages import log


def round_weights(
    folded: keras.Model,
    options: Options,
    calibration: np.ndarray | None,
    *,
    takes_pixels: bool,
    smallest: int = 0,
) -> bool:
    """Rounds the weights of a folded model as the options ask; says how.

    Args:
        folded: a model of `fold`; its weights are changed.
        options: an `Options` of a kind with 8-bit weights.
        calibration: (N, H, W, C) images, or None: drawn ones stand in for them.
        takes_pixels: whether the model takes pixels in [0, 255].
        smallest: kernels of fewer weights stay as they are.

    Returns:
        Whether the weights were rounded here; if not, whoever writes the file rounds each of
        them to the nearest step.
    """
    if options.effort == "quick":
        log.info("effort quick: each weight goes to the nearest step of its channel")
        return False
    if calibration is None and not takes_pixels:
        log.info(
            "Each weight goes to the nearest step of its channel: more needs images, and for a "
            "model whose caller normalises the pixels none can be drawn; give calibration images"
        )
        return False
    images = _images(folded, calibration)
    _say(options, len(images), calibration is None)
    with progress.bar("Rounding weights", unit="layers") as bar:
        sweeping.round_weights(folded, images, smallest=smallest, progress=progress.shown_by(bar))
    return True


def _images(folded, calibration):
    """Returns the images to round for."""
    shape = tuple(folded.input_shape[1:])
    if calibration is not None:
        return sweeping.chosen(folded, calibration)
    return leaves.images(sweeping.count(folded), shape)


def _say(options, count, are_drawn):
    """Says how weights are rounded, and for which images."""
    effort = options.effort or "normal, the default"
    images = f"{count} calibration images"
    if are_drawn:
        images = f"{count} drawn images; calibration images of your own may do better"
    log.info(f"effort {effort}: the errors of 8-bit weights are made to cancel on {images}")


def equalize(folded: keras.Model, calibration: np.ndarray) -> None:
    """Gives the channels of a folded model like ranges on images (N, H, W, C); says how far."""
    with progress.bar("Measuring ranges", len(calibration)) as bar:
        done = equalization.equalize(folded, calibration, progress.shown_by(bar))
    if done:
        spread = max(np.log2(factors.max() / factors.min()) for _, factors in done)
        log.info(
            f"Equalised the channels of {len(done)} links between linear layers; within "
            f"one, ranges differed by up to {spread:.1f} octaves."
        )


def correct_biases(folded: keras.Model, calibration: np.ndarray) -> None:
    """Takes the mean error of nearest rounding off the biases of a folded model."""
    with progress.bar("Measuring means", len(calibration)) as bar:
        equalization.correct_biases(folded, calibration, progress.shown_by(bar))
