"""A data set and a network so small that tests can afford some trainings of them."""

import numpy as np

import effnet_tf
from effnet_tf.search import Images

BASE = effnet_tf.Variant(
    "few",
    1.0,
    1.0,
    4,
    0.0,
    stages=(effnet_tf.Stage(8, 1, 3, 1, 1, 8),),
    se_ratio=0.0,
    stem_filters=8,
    head_filters=8,
)


def colours(count=96, side=4, classes=3):
    """Noise around one colour for each class; a third of it is held out."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    centres = random.integers(40, 216, (classes, 3))
    noise = random.integers(-40, 41, (count, side, side, 3))
    pixels = np.clip(centres[labels][:, None, None] + noise, 0, 255).astype("uint8")
    held_out = np.arange(count) // classes % 3 == 0
    return Images("Colours", tuple("abc"[:classes]), pixels, labels, held_out)
