"""What happens to one image between its bytes and the batch, and to pairs of images in it?

The published preprocessing: the training crop and flip, the evaluation crop, and
TF1's bicubic resize. Results are uint8: the model normalises, on the device. Mixup and
cutmix are drawn with the image and applied to the batch, on the device, too.

Source (preprocessing.py below): tensorflow/tpu models/official/efficientnet.
"""

import tensorflow as tf

# preprocessing.py: distorted_bounding_box_crop.
MIN_OBJECT_COVERED = 0.1
ASPECT_RATIO_RANGE = (3 / 4, 4 / 3)
MAX_ATTEMPTS = 10


def decode(encoded):
    """Decodes JPEG, PNG, BMP or (first frame) GIF bytes: () string -> (H, W, 3) uint8."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def training_image(encoded, size, *, crop_area_min, crop_padding, flip, seed):
    """Makes a training image: random crop, resize, random mirror.

    Args:
        encoded: () string, the bytes of an image file.
        size: side of the result in pixels.
        crop_area_min: smallest area of the crop over that of the image; 1: no random crop.
        crop_padding: of the central crop that is taken where none could be drawn.
        flip: whether half of the images are mirrored.
        seed: (2,) int64; the same seed draws the same image.

    Returns:
        (size, size, 3) uint8.
    """
    shape = tf.cond(tf.io.is_jpeg(encoded),
                    lambda: tf.io.extract_jpeg_shape(encoded),
                    lambda: tf.shape(decode(encoded)))
    window = central_window(shape, size, crop_padding)
    # Two seeds: drawn from the same one, crop and flip would be correlated.
    crop_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    if crop_area_min < 1:
        window = _random_window(shape, window, crop_area_min, crop_seed)
    image = resize(_decode_window(encoded, window), size)
    return tf.image.stateless_random_flip_left_right(image, flip_seed) if flip else image


def evaluation_image(encoded, size, crop_padding):
    """Makes an evaluation image: () string -> (size, size, 3) uint8, central crop."""
    image = decode(encoded)
    window = central_window(tf.shape(image), size, crop_padding)
    return resize(_slice(image, window), size)


def central_window(shape, size, crop_padding):
    """The central square crop, as (top, left, height, width) int32.

    Its side is size / (size + crop_padding) of the image's short side. The published
    accuracies were measured with a padding of 32; the original's last version takes
    0.875 of every size.
    """
    height, width = shape[0], shape[1]
    short = tf.cast(tf.minimum(height, width), tf.float32)
    # At least a pixel: images may be thinner than the padding leaves.
    side = tf.maximum(tf.cast(size / (size + crop_padding) * short, tf.int32), 1)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])


def _random_window(shape, fallback, area_min, seed):
    """Draws the paper's crop; where it is the whole image, takes `fallback` as published."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        shape, tf.zeros((1, 0, 4)), seed, min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=ASPECT_RATIO_RANGE, area_range=(area_min, 1.0),
        max_attempts=MAX_ATTEMPTS, use_image_if_no_bounding_boxes=True)
    window = tf.concat([begin[:2], extent[:2]], 0)
    return tf.where(tf.reduce_all(extent[:2] == shape[:2]), fallback, window)


def _slice(image, window):
    return tf.image.crop_to_bounding_box(image, *tf.unstack(window))


def _decode_window(encoded, window):
    """Decodes only the window of a JPEG; decodes and slices anything else."""
    return tf.cond(tf.io.is_jpeg(encoded),
                   lambda: tf.io.decode_and_crop_jpeg(encoded, window, channels=3),
                   lambda: _slice(decode(encoded), window))


def resize(image, size):
    """TF1's bicubic resize, rounded: (H, W, 3) uint8 -> (size, size, 3) uint8.

    TF1 sampled at pixel corners (`half_pixel_centers=False`), and the published weights
    were trained on such images; tf.image.resize differs by 2.6 grey levels on average.
    The original passes the floats on, unrounded and beyond [0, 255]; ours are bytes, a
    quarter of the traffic to the device.
    """
    resized = tf.raw_ops.ResizeBicubic(
        images=image[tf.newaxis], size=[size, size], align_corners=False,
        half_pixel_centers=False)[0]
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def mixing(seed, size, mixup_alpha, cutmix_alpha):
    """Draws how an image is mixed with its partner in the batch: mixup, or cutmix.

    Args:
        seed: (2,) int64.
        size: side of the image in pixels.
        mixup_alpha: of Beta(alpha, alpha); 0: no mixup. As main.py, the larger share is
            the image's own.
        cutmix_alpha: of the same for the area that is kept; 0: no cutmix. With both, each
            image draws one of them.

    Returns:
        (6,) float32: the share of its own label, the share of its own pixels outside the
        pasted box, and top, bottom, left and right of that box.
    """
    draw_seed, mixup_seed, cutmix_seed = tf.unstack(
        tf.random.experimental.stateless_split(seed, 3))
    paste = tf.random.stateless_uniform((), draw_seed) < 0.5
    if mixup_alpha and cutmix_alpha:
        return tf.where(paste, _cutmix(cutmix_seed, size, cutmix_alpha),
                        _mixup(mixup_seed, mixup_alpha))
    return (_mixup(mixup_seed, mixup_alpha) if mixup_alpha
            else _cutmix(cutmix_seed, size, cutmix_alpha))


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
    low, high = (tf.clip_by_value(tf.round(edge), 0, size)
                 for edge in (middle - half, middle + half))
    share = 1 - tf.reduce_prod(high - low) / size**2  # what the border left of the box
    return tf.stack([share, 1.0, low[0], high[0], low[1], high[1]])


def mix(images, targets, mixing):
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
    inside = (((place >= top) & (place < bottom))[:, :, tf.newaxis]
              & ((place >= left) & (place < right))[:, tf.newaxis])
    kept = tf.where(inside, 0.0, blend[:, tf.newaxis, tf.newaxis])[..., tf.newaxis]
    share = share[:, tf.newaxis]
    return (kept * images + (1 - kept) * images[::-1],
            share * targets + (1 - share) * targets[::-1])
