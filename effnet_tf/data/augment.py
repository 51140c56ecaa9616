"""How are images mirrored, erased in part, and mixed with others of their batch?

Each draws from a seed of its own, with the image. Mixup and cutmix are drawn with the image,
too, and applied to the batch, on the device.
"""

import functools
import math

import tensorflow as tf

from effnet_tf import extras

ERASED = 128  # the grey of random erasing
# arXiv 1708.04896, section 4: area of the rectangle over that of the image, and its shape.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)


def mirror(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors half of the images, drawn by a seed (2,) int64: (H, W, 3) -> (H, W, 3)."""
    # tf.image's takes a third longer.
    mirrored = tf.cond(
        tf.random.stateless_uniform((), seed) < 0.5, lambda: tf.reverse(image, [1]), lambda: image
    )
    return tf.ensure_shape(mirrored, image.shape)


@functools.cache
def _rectangles():
    """keras_cv's painter of rectangles; its own draws, which no seed fixes, are not used."""
    # Here: its import takes a second, and few need it.
    keras_cv = extras.load("keras_cv", "Random erasing")
    return keras_cv.layers.RandomCutout(1.0, 1.0, fill_value=ERASED)


def erase(image: tf.Tensor, probability: float, seed: tf.Tensor) -> tf.Tensor:
    """Random erasing: paints a grey rectangle over some images.

    Args:
        image: (H, W, 3) uint8, H and W known.
        probability: of an image to be painted on, in [0, 1].
        seed: (2,) int64.

    Returns:
        (H, W, 3) uint8.
    """
    height, width, _ = image.shape
    apply, area, aspect, across, down = tf.unstack(tf.random.stateless_uniform((5,), seed))
    area = (ERASED_AREA[0] + area * (ERASED_AREA[1] - ERASED_AREA[0])) * height * width
    low, high = (math.log(ratio) for ratio in ERASED_ASPECT)
    ratio = tf.exp(low + aspect * (high - low))
    sides = tf.minimum(tf.sqrt([area * ratio, area / ratio]), [height, width])
    sides = tf.where(apply < probability, tf.round(sides), 0.0)
    # Wholly inside of the image, as in the paper.
    corner = tf.floor([down, across] * ([height, width] - sides + 1))
    middle = corner + sides / 2
    painted = _rectangles().augment_images(
        tf.cast(image, tf.float32)[tf.newaxis],
        {
            "centers_y": middle[:1],
            "centers_x": middle[1:],
            "rectangles_height": sides[:1],
            "rectangles_width": sides[1:],
        },
    )
    return tf.ensure_shape(tf.cast(painted[0], tf.uint8), image.shape)


def cut_out(image: tf.Tensor, share: float, seed: tf.Tensor) -> tf.Tensor:
    """Paints a square of noise into an image, as EfficientNetV2's fine-tuning does.

    The middle of the square is anywhere in the image, so that some squares are cut off (arXiv
    1708.04552; google/automl efficientnetv2: autoaugment.py, cutout). The noise is that of
    preprocessing.py, preprocess_for_finetune: uniform in [0, 1) after the pixels are scaled to
    [-1, 1], so that it is never dark.

    Args:
        image: (H, W, 3) uint8, H and W known.
        share: side of the square over the height of the image, in (0, 1].
        seed: (2,) int64.

    Returns:
        (H, W, 3) uint8.
    """
    height, width, _ = image.shape
    half = int(height * share / 2)
    place_seed, noise_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    places = tf.random.stateless_uniform((2,), place_seed)
    down, across = tf.unstack(tf.cast(places * [height, width], tf.int32))
    inside = _near(height, down, half)[:, tf.newaxis] & _near(width, across, half)[tf.newaxis]
    noise = 127.5 * (1 + tf.random.stateless_uniform(image.shape, noise_seed))
    return tf.where(inside[..., tf.newaxis], tf.cast(tf.round(noise), tf.uint8), image)


def _near(count, middle, half):
    """Which of `count` rows are in [middle - half, middle + half): (count,) bool."""
    rows = tf.range(count)
    return (rows >= middle - half) & (rows < middle + half)


def mixing(seed: tf.Tensor, size: int, mixup_alpha: float, cutmix_alpha: float) -> tf.Tensor:
    """Draws how an image is mixed with its partner in the batch: mixup, or cutmix.

    Args:
        seed: (2,) int64.
        size: side of the image in pixels.
        mixup_alpha: of Beta(alpha, alpha); 0: no mixup. As main.py, the larger share is
            the image's own.
        cutmix_alpha: of the same for the area that is kept; 0: no cutmix. With both, each
            image draws one of them, and its label goes by its own box (google/automl
            efficientnetv2/datasets.py: mixup for one half of the batch, cutmix for the other, whose
            labels go by the mean area of its boxes).

    Returns:
        (6,) float32: the share of its own label, the share of its own pixels outside the
        pasted box, and top, bottom, left and right of that box.
    """
    draw_seed, mixup_seed, cutmix_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    paste = tf.random.stateless_uniform((), draw_seed) < 0.5
    if mixup_alpha and cutmix_alpha:
        return tf.where(
            paste, _cutmix(cutmix_seed, size, cutmix_alpha), _mixup(mixup_seed, mixup_alpha)
        )
    if mixup_alpha:
        return _mixup(mixup_seed, mixup_alpha)
    return _cutmix(cutmix_seed, size, cutmix_alpha)


def _beta(seed, alpha):
    one, other = tf.unstack(tf.random.stateless_gamma((2,), seed, alpha))
    return tf.math.divide_no_nan(one, one + other)  # both underflow for a tiny alpha


def _mixup(seed, alpha):
    share = _beta(seed, alpha)
    share = tf.maximum(share, 1 - share)
    return tf.concat([[share, share], tf.zeros(4)], 0)


def _cutmix(seed, size, alpha):
    share_seed, place_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    half = size * tf.sqrt(1 - _beta(share_seed, alpha)) / 2
    middle = tf.random.stateless_uniform((2,), place_seed, 0, size)
    low, high = (
        tf.clip_by_value(tf.round(edge), 0, size) for edge in (middle - half, middle + half)
    )
    share = 1 - tf.reduce_prod(high - low) / size**2  # what the border left of the box
    return tf.stack([share, 1.0, low[0], high[0], low[1], high[1]])


def mix(images: tf.Tensor, targets: tf.Tensor, mixing: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes each image and target of a batch with its partner, the batch reversed (main.py).

    Args:
        images: (N, S, S, 3) uint8.
        targets: (N, classes) float32.
        mixing: (N, 6) float32, of `mixing`.

    Returns:
        (images (N, S, S, 3) float32 in [0, 255], targets (N, classes) float32).
    """
    images = tf.cast(images, tf.float32)
    share, blend, *edges = (mixing[:, column] for column in range(6))
    top, bottom, left, right = (edge[:, tf.newaxis] for edge in edges)
    place = tf.range(images.shape[1], dtype=tf.float32)[tf.newaxis]
    inside = ((place >= top) & (place < bottom))[:, :, tf.newaxis] & (
        (place >= left) & (place < right)
    )[:, tf.newaxis]
    kept = tf.where(inside, 0.0, blend[:, tf.newaxis, tf.newaxis])[..., tf.newaxis]
    share = share[:, tf.newaxis]
    return (
        kept * images + (1 - kept) * images[::-1],
        share * targets + (1 - share) * targets[::-1],
    )
