"""Which images stand in for photographs where nobody has given any?

Discs of one colour each, of all sizes, that hide one another, as leaves on the ground do; with some
shading and grain. Their edges, flat parts and scales have the statistics of photographs (Lee,
Mumford and Huang, "Occlusion models for natural images", IJCV 41, 2001), which noise has not.
"""

import numpy as np

_DISCS = 120
_SMALLEST = 0.02  # of the side: radius of a disc
_GREY, _COLOUR = 60.0, 25.0  # deviations of the discs' brightness and colour, in grey levels
_SHADING, _GRAIN = 30.0, 4.0


def images(count: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Returns images (count, H, W, C) float32 in [0, 255], a function of the seed.

    Args:
        count: how many.
        shape: (H, W, C) of each.
        seed: of their random numbers.
    """
    return np.stack([_image(shape, np.random.default_rng((seed, n))) for n in range(count)])


def _image(shape, random):
    """Returns one image; it is lit from somewhere, and somewhat grainy."""
    height, width, channels = shape
    y, x = np.mgrid[:height, :width].astype("float32") / max(height, width)
    image = np.full(shape, 124, "float32")
    for _ in range(_DISCS):
        # Sizes by the inverse cube, the only law that looks the same from near and far.
        radius = _SMALLEST / np.sqrt(random.uniform(4 * _SMALLEST**2, 1))
        top, left = random.uniform(-0.1, 1.1, 2)
        colour = 124 + _GREY * random.normal() + _COLOUR * random.normal(size=channels)
        image[(y - top) ** 2 + (x - left) ** 2 < radius**2] = colour
    light = random.normal(size=2) * _SHADING
    image += (light[0] * (y - 0.5) + light[1] * (x - 0.5))[..., np.newaxis]
    image += _GRAIN * random.normal(size=shape)
    return np.clip(image, 0, 255).astype("float32")
