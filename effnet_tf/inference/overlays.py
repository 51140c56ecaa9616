"""How is drawn what speaks for a class: as colours over the image?"""

import importlib

import numpy as np

from effnet_tf import plots
from effnet_tf.inference.explaining import Explanation
from effnet_tf.inference.photos import to_bytes

STRENGTH = 0.6  # of the colours where the most speaks for a class
_COLOURS = "turbo"
# The part of the pixels below the one that counts as the most: single ones are noise.
_MOST = 99.5
WIDTH = 3.2  # inches of each image in a picture of its own


def highest(heat: np.ndarray) -> float:
    """Returns what counts as the most in a heat (H, W), at least 0."""
    return float(np.percentile(heat, _MOST) or heat.max())


def blended(pixels: np.ndarray, heat: np.ndarray, most: float | None = None) -> np.ndarray:
    """Returns an image with colours over it: from blue, nothing, to red, the most.

    Args:
        pixels: (H, W, C) float32 in [0, 255]; grey ones become RGB, opacity is left out.
        heat: (H, W), at least 0.
        most: the heat that is red; None: the highest one of this image.

    Returns:
        (H, W, 3) uint8.
    """
    colours = importlib.import_module("matplotlib").colormaps[_COLOURS]
    if pixels.shape[-1] < 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=-1)
    if most is None:
        most = highest(heat)
    if not (most > 0 and heat.max() > 0):  # nothing speaks for it, or it is no number
        return to_bytes(pixels[..., :3])
    over = 255 * colours(np.minimum(heat / most, 1))[..., :3]
    return to_bytes((1 - STRENGTH) * pixels[..., :3] + STRENGTH * over)


def panels(explanation: Explanation) -> tuple[list[np.ndarray], list[str]]:
    """Returns (images, captions): what the network saw, then each class over it.

    The colours of all classes mean the same: what hardly speaks for an unlikely one stays blue.
    """
    images, captions = [to_bytes(explanation.pixels)], [explanation.image[-40:]]
    most = max((highest(heat) for heat in explanation.heats), default=0.0)
    rows = zip(explanation.classes, explanation.probabilities, explanation.heats)
    for name, chance, heat in rows:
        images.append(blended(explanation.pixels, heat, most))
        caption = f"{name} ({chance:.1%})"
        if not heat.max() > 0:
            caption += ": nothing speaks for it"
        captions.append(caption)
    return images, captions


def draw(explanations: list[Explanation], path: str, width: float) -> bool:
    """Draws explanations, a row for each.

    Args:
        explanations: of good images, each of as many classes.
        path: of the PNG file.
        width: of an image, in inches.

    Returns:
        Whether it was drawn.
    """
    images: list[np.ndarray] = []
    captions: list[str] = []
    for each in explanations:
        more, names = panels(each)
        images += more
        captions += names
    columns = len(images) // max(len(explanations), 1)
    return plots.predictions(images, captions, [None] * len(images), path, columns, width)
