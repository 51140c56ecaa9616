"""What happens to one image between its bytes and the batch, and to pairs of images in it?

The published preprocessing: the training crop and flip, the evaluation crop, and
TF1's bicubic resize. Results are uint8: the model normalises, on the device. Mixup and
cutmix are drawn with the image and applied to the batch, on the device, too.

Source (preprocessing.py below): tensorflow/tpu models/official/efficientnet.
"""

import functools
import math

import tensorflow as tf

from effnet_tf import extras

# preprocessing.py: distorted_bounding_box_crop.
MIN_OBJECT_COVERED = 0.1
ASPECT_RATIO_RANGE = (3 / 4, 4 / 3)
MAX_ATTEMPTS = 10
# 402 MB once decoded: beyond phones' 108 megapixels. The header says it, before a file of a
# few kilobytes takes all memory.
MAX_PIXELS = 2**27
ERASED = 128  # the grey of random erasing
PNG, GIF, BMP, RIFF = 0x89, ord("G"), ord("B"), ord("R")  # first bytes
ANIMATED = 2  # bit of a WebP's flags
EXIF_BEGINS = (6, 24)  # first segment of a JPEG, or the second, after JFIF's


def decode(encoded):
    """Decodes JPEG, PNG, BMP, WebP or (first frame) GIF: () string -> (H, W, 3) uint8.

    Transparency is dropped. Never call it before `shape_of`: TensorFlow 2.21 breaks its own
    memory at animated WebP images.
    """

    def three():
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)

    def of_webp():  # one with transparency does not let itself be decoded to three channels
        return tf.io.decode_image(encoded, channels=0, expand_animations=False)[..., :3]

    return tf.ensure_shape(tf.cond(_is_webp(encoded), of_webp, three), (None, None, 3))


def _is_webp(encoded):
    return tf.strings.regex_full_match(tf.strings.substr(encoded, 0, 12), "RIFF\\C{4}WEBP")


def header_shape(encoded):
    """Reads height and width in the header of an image file: () string -> (2,) int32.

    (0, 0) where it is no JPEG, PNG, GIF, BMP or WebP, and where it is an animated WebP.

    Raises:
        tf.errors.InvalidArgumentError: a damaged header of a JPEG.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
        lambda: _other_shape(encoded),
    )


def shape_of(encoded):
    """Like `header_shape`, but no image and more than MAX_PIXELS are an error, too."""
    shape = header_shape(encoded)
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    right = tf.debugging.Assert((pixels > 0) & (pixels <= MAX_PIXELS), [shape])
    with tf.control_dependencies([right]):
        return tf.identity(shape)


def _other_shape(encoded):
    """Height and width of a PNG, a GIF, a BMP or a WebP."""
    header = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 0, 30), tf.uint8), tf.int64)
    header = tf.ensure_shape(tf.pad(header, [[0, 30 - tf.size(header)]]), (30,))
    kind = header[0]
    width_height = tf.case(
        [
            (kind == PNG, lambda: _numbers(tf.reshape(header[16:24], (2, 4))[:, ::-1])),
            (kind == GIF, lambda: _numbers(tf.reshape(header[6:10], (2, 2)))),
            (kind == BMP, lambda: _numbers(tf.reshape(header[18:26], (2, 4)))),
            (kind == RIFF, lambda: _webp_sides(header)),
        ],
        default=lambda: tf.zeros(2, tf.int64),
    )
    # The height of a BMP that begins at the top is negative.
    return tf.abs(tf.cast(width_height, tf.int32))[::-1]


def _numbers(rows):
    """Reads a number in each row of bytes, the least first: (n, k) -> (n,) int64."""
    powers = [256**place for place in range(rows.shape[1])]
    return tf.reduce_sum(rows * tf.constant(powers, tf.int64), 1)


def _webp_sides(header):
    """Width and height of a WebP (RFC 9649): of lossy, of lossless, or of its canvas."""

    def starts(begin, word):
        return tf.reduce_all(header[begin : begin + 4] == list(word))

    def lossless():
        bits = _numbers(header[tf.newaxis, 21:25])[0]
        return tf.stack([bits % 2**14 + 1, bits // 2**14 % 2**14 + 1])

    def canvas():
        still = header[20] // ANIMATED % 2 == 0
        sides = _numbers(tf.reshape(header[24:30], (2, 3))) + 1
        return tf.where(still, sides, tf.zeros(2, tf.int64))

    nothing = tf.zeros(2, tf.int64)
    return tf.case(
        [
            (~starts(8, b"WEBP"), lambda: nothing),
            (starts(12, b"VP8 "), lambda: _numbers(tf.reshape(header[26:30], (2, 2))) % 2**14),
            (starts(12, b"VP8L"), lossless),
            (starts(12, b"VP8X"), canvas),
        ],
        default=lambda: nothing,
    )


def orientation_of(encoded):
    """Reads how an image file says that it is to be turned: () string -> () int32, 1 to 8.

    1, upright, unless a JPEG begins with Exif data, as cameras write it, that says otherwise.
    """
    starts = [tf.strings.substr(encoded, begin, 6) == b"Exif\0\0" for begin in EXIF_BEGINS]
    begin = tf.where(starts[0], EXIF_BEGINS[0], EXIF_BEGINS[1]) + 6
    return tf.cond(
        tf.io.is_jpeg(encoded) & tf.reduce_any(starts),
        lambda: _tiff_orientation(tf.strings.substr(encoded, begin, 1024)),
        lambda: 1,
    )


def _tiff_orientation(tiff):
    """Finds the tag 0x0112 in the first directory of TIFF data."""
    data = tf.cast(tf.io.decode_raw(tiff, tf.uint8), tf.int32)
    data = tf.pad(data, [[0, 1024 - tf.size(data)]])
    order = tf.where(data[0] == ord("I"), [1, 256], [256, 1])  # Intel or Motorola
    directory = tf.clip_by_value(
        tf.where(data[0] == ord("I"), data[4] + 256 * data[5], 256 * data[6] + data[7]), 0, 640
    )
    entries = tf.reshape(data[directory + 2 : directory + 2 + 12 * 30], (30, 12))
    number = tf.tensordot(data[directory : directory + 2], order, 1)
    is_it = (tf.tensordot(entries[:, :2], order, 1) == 0x0112) & (tf.range(30) < number)
    value = tf.reduce_max(tf.where(is_it, tf.tensordot(entries[:, 8:10], order, 1), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def training_image(encoded, size, *, seed, flip, **crop):
    """Makes a training image: random crop, resize, random mirror.

    Args:
        encoded: () string, the bytes of an image file.
        size: side of the result in pixels.
        seed: (2,) int64; the same seed draws the same image.
        flip: whether half of the images are mirrored.
        **crop: of `training_crop`.

    Returns:
        (size, size, 3) uint8.
    """
    # Two seeds: drawn from the same one, crop and flip would be correlated.
    crop_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    image = resize(training_crop(encoded, size, seed=crop_seed, **crop), size)
    return mirror(image, flip_seed) if flip else image


def training_crop(
    encoded, size, *, crop_area_min, crop_padding, seed, exif_rotation=False, scaled_decode=False
):
    """Decodes a random crop of an image file: () string -> (h, w, 3) uint8.

    Args:
        encoded: () string, the bytes of an image file.
        size: side of the image that will be made of it, in pixels.
        crop_area_min: smallest area of the crop over that of the image; 1: no random crop.
        crop_padding: of the central crop that is taken where none could be drawn.
        seed: (2,) int64; the same seed draws the same crop.
        exif_rotation: whether to turn the image as its Exif data say; the original does not.
        scaled_decode: whether to decode large JPEGs at 1/2, 1/4 or 1/8.
    """
    encoded, shape, turn = _opened(encoded, exif_rotation)
    central = functools.partial(central_window, shape, size, crop_padding)
    window = (
        central() if crop_area_min == 1 else _random_window(shape, central, crop_area_min, seed)
    )
    return _decode_window(encoded, window, shape, size, turn, scaled_decode)


def evaluation_image(encoded, size, crop_padding, *, exif_rotation=False, scaled_decode=False):
    """Makes an evaluation image, the central crop: () string -> (size, size, 3) float32.

    As published: neither rounded nor clipped, so that values may leave [0, 255] a little.
    """
    encoded, shape, turn = _opened(encoded, exif_rotation)
    window = central_window(shape, size, crop_padding)
    return bicubic(_decode_window(encoded, window, shape, size, turn, scaled_decode), size)


def whole_image(encoded, exif_rotation=False):
    """Decodes all of an image file, upright if wanted: () string -> (H, W, 3) uint8."""
    encoded, shape, turn = _opened(encoded, exif_rotation)
    return _decode_window(encoded, tf.concat([[0, 0], shape], 0), shape, 1, turn, False)


def central_window(shape, size, crop_padding):
    """The central square crop, as (top, left, height, width) int32.

    Its side is size / (size + crop_padding) of the image's short side. The published
    accuracies were measured with a padding of 32; the original's last version takes
    0.875 of every size, `padding_of(0.875, size)`.
    """
    height, width = shape[0], shape[1]
    short = tf.cast(tf.minimum(height, width), tf.float32)
    # At least a pixel: images may be thinner than the padding leaves.
    side = tf.maximum(tf.cast(size / (size + crop_padding) * short, tf.int32), 1)
    return tf.stack([(height - side + 1) // 2, (width - side + 1) // 2, side, side])


def padding_of(fraction, size):
    """Returns the crop padding that leaves a fraction of the short side (preprocessing.py)."""
    return round(size * (1 / fraction - 1))


def _random_window(shape, fallback, area_min, seed):
    """Draws the paper's crop; where it is the whole image, takes `fallback()` as published."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape[:2], [3]], 0),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=MIN_OBJECT_COVERED,
        aspect_ratio_range=ASPECT_RATIO_RANGE,
        area_range=(area_min, 1.0),
        max_attempts=MAX_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    return tf.cond(
        tf.reduce_all(extent[:2] == shape[:2]),
        fallback,
        lambda: tf.concat([begin[:2], extent[:2]], 0),
    )


# What Exif's orientations are made of: upside down, then left to right, then transposed.
_TURNS = (
    (0, 0, 0),
    (0, 0, 0),
    (0, 1, 0),
    (1, 1, 0),
    (1, 0, 0),
    (0, 0, 1),
    (1, 0, 1),
    (1, 1, 1),
    (0, 1, 1),
)


def _opened(encoded, exif_rotation):
    """Returns (the bytes, height and width upright, how to turn the image or None)."""
    shape = shape_of(encoded)
    with tf.control_dependencies([shape]):
        encoded = tf.identity(encoded)  # nothing is decoded before its header was looked at
    if not exif_rotation:
        return encoded, shape, None
    turn = orientation_of(encoded)
    return encoded, tf.where(turn >= 5, shape[::-1], shape), turn


def _decode_window(encoded, window, shape, size, turn, scaled):
    """Decodes a window of the upright image of a shape; of a JPEG nothing else."""

    def as_it_is():
        return _decode_raw_window(encoded, window, size, scaled)

    if turn is None:
        return as_it_is()
    return tf.cond(
        turn <= 1,
        as_it_is,
        lambda: _decode_turned_window(encoded, window, shape, size, turn, scaled),
    )


def _decode_turned_window(encoded, window, shape, size, turn, scaled):
    upside, mirrored, transposed = (steps == 1 for steps in tf.unstack(tf.constant(_TURNS)[turn]))
    place, extent = window[:2], window[2:]
    place, extent, shape = (
        tf.where(transposed, pair[::-1], pair) for pair in (place, extent, shape)
    )
    turned = tf.stack([upside, mirrored])
    place = tf.where(turned, shape - place - extent, place)
    image = _decode_raw_window(encoded, tf.concat([place, extent], 0), size, scaled)
    image = tf.reverse(image, tf.where(turned)[:, 0])
    return tf.cond(transposed, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)


def _decode_raw_window(encoded, window, size, scaled):
    """Decodes only the window of a JPEG; decodes and slices anything else."""
    jpeg = functools.partial(_scaled_window, size=size) if scaled else _jpeg_window
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: jpeg(encoded, window),
        lambda: tf.image.crop_to_bounding_box(decode(encoded), *tf.unstack(window)),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _jpeg_window(encoded, window, ratio=1):
    return tf.io.decode_and_crop_jpeg(encoded, window // ratio, channels=3, ratio=ratio)


def _scaled_window(encoded, window, size):
    """Has libjpeg shrink the image as long as the window stays as large as the result."""
    halvings = sum(
        tf.cast(tf.reduce_min(window[2:]) >= size * ratio, tf.int32) for ratio in (2, 4, 8)
    )
    return tf.switch_case(
        halvings,
        [functools.partial(_jpeg_window, encoded, window, ratio) for ratio in (1, 2, 4, 8)],
    )


def bicubic(image, size):
    """TF1's bicubic resize: (H, W, 3) uint8 -> (size, size, 3) float32, beyond [0, 255], too.

    TF1 sampled at pixel corners (`half_pixel_centers=False`), and the published weights
    were trained on such images; tf.image.resize differs by 2.6 grey levels on average.
    """
    # Cast before, because the operation takes 150 microseconds longer on bytes.
    return tf.raw_ops.ResizeBicubic(
        images=tf.cast(image, tf.float32)[tf.newaxis],
        size=[size, size],
        align_corners=False,
        half_pixel_centers=False,
    )[0]


def resize(image, size):
    """TF1's bicubic resize, rounded: (H, W, 3) uint8 -> (size, size, 3) uint8.

    The original passes the floats on; ours are bytes, a quarter of the traffic to the device.
    """
    return to_bytes(bicubic(image, size))


def to_bytes(image):
    """Rounds, halves to even, and clips pixels: float32 -> uint8."""
    # One pass; round and saturate_cast are four.
    pixels = tf.raw_ops.QuantizeV2(
        input=image,
        min_range=0.0,
        max_range=255.0,
        T=tf.quint8,
        mode="SCALED",
        round_mode="HALF_TO_EVEN",
    )[0]
    return tf.bitcast(pixels, tf.uint8)


def mirror(image, seed):
    """Mirrors half of the images: (H, W, 3) -> (H, W, 3)."""
    # tf.image's takes a third longer.
    mirrored = tf.cond(
        tf.random.stateless_uniform((), seed) < 0.5, lambda: tf.reverse(image, [1]), lambda: image
    )
    return tf.ensure_shape(mirrored, image.shape)


# arXiv 1708.04896, section 4: area of the rectangle over that of the image, and its shape.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)


@functools.cache
def _rectangles():
    """keras_cv's painter of rectangles; its own draws, which no seed fixes, are not used."""
    # Here: its import takes a second, and few need it.
    keras_cv = extras.load("keras_cv", "Random erasing")
    return keras_cv.layers.RandomCutout(1.0, 1.0, fill_value=ERASED)


def erase(image, probability, seed):
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
    draw_seed, mixup_seed, cutmix_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    paste = tf.random.stateless_uniform((), draw_seed) < 0.5
    if mixup_alpha and cutmix_alpha:
        return tf.where(
            paste, _cutmix(cutmix_seed, size, cutmix_alpha), _mixup(mixup_seed, mixup_alpha)
        )
    return (
        _mixup(mixup_seed, mixup_alpha) if mixup_alpha else _cutmix(cutmix_seed, size, cutmix_alpha)
    )


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
    inside = ((place >= top) & (place < bottom))[:, :, tf.newaxis] & (
        (place >= left) & (place < right)
    )[:, tf.newaxis]
    kept = tf.where(inside, 0.0, blend[:, tf.newaxis, tf.newaxis])[..., tf.newaxis]
    share = share[:, tf.newaxis]
    return (
        kept * images + (1 - kept) * images[::-1],
        share * targets + (1 - share) * targets[::-1],
    )
