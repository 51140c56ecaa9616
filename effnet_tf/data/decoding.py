"""What does an image file say of itself, and how is a window of it decoded?

The header is read before anything is decoded: a file of a few kilobytes may claim more pixels
than there is memory, and cameras say in it how a photo is to be turned.
"""

import functools

import tensorflow as tf

from effnet_tf.data import headers

# 402 MB once decoded: beyond phones' 108 megapixels. The header says it, before a file of a
# few kilobytes takes all memory.
MAX_PIXELS = 2**27
EXIF_BEGINS = (6, 24)  # first segment of a JPEG, or the second, after JFIF's


def decode(encoded: tf.Tensor) -> tf.Tensor:
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


def header_shape(encoded: tf.Tensor) -> tf.Tensor:
    """Reads height and width in the header of an image file: () string -> (2,) int32.

    (0, 0) where it is no JPEG, PNG, GIF, BMP or WebP, and where it is an animated WebP.

    Raises:
        tf.errors.InvalidArgumentError: a damaged header of a JPEG.
    """
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.extract_jpeg_shape(encoded)[:2],
        lambda: headers.shape(encoded),
    )


def check(right: tf.Tensor, value: tf.Tensor) -> tf.Operation | None:
    """Raises an InvalidArgumentError with a value unless () bool is true; in graphs an operation.

    tf.debugging.Assert would make a branch of it, which takes fifty times as long to trace.
    """
    return tf.raw_ops.Assert(condition=right, data=[value])


def shape_of(encoded: tf.Tensor) -> tf.Tensor:
    """Like `header_shape`, but no image and more than MAX_PIXELS are an error, too."""
    shape = header_shape(encoded)
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    right = check((pixels > 0) & (pixels <= MAX_PIXELS), shape)
    with tf.control_dependencies([right]):
        return tf.identity(shape)


def orientation_of(encoded: tf.Tensor) -> tf.Tensor:
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


# --- windows ----------------------------------------------------------------------------------

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


def opened(
    encoded: tf.Tensor, exif_rotation: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
    """Returns what `decode_window` takes of an image file: (bytes, shape, turn).

    Args:
        encoded: () string, the bytes of an image file.
        exif_rotation: whether to turn the image as its Exif data say.

    Returns:
        The bytes; height and width upright, (2,) int32; the orientation, () int32, or None.
    """
    shape = shape_of(encoded)
    with tf.control_dependencies([shape]):
        encoded = tf.identity(encoded)  # nothing is decoded before its header was looked at
    if not exif_rotation:
        return encoded, shape, None
    turn = orientation_of(encoded)
    return encoded, tf.where(turn >= 5, shape[::-1], shape), turn


def decode_window(
    encoded: tf.Tensor,
    window: tf.Tensor,
    shape: tf.Tensor,
    size: int,
    turn: tf.Tensor | None,
    scaled: bool,
) -> tf.Tensor:
    """Decodes a window of an upright image, of a JPEG nothing else: -> (h, w, 3) uint8.

    Args:
        encoded, shape, turn: of `opened`.
        window: (top, left, height, width), (4,) int32.
        size: side of the image that will be made of it, in pixels.
        scaled: whether to decode large JPEGs at 1/2, 1/4 or 1/8.
    """

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
    jpeg = _jpeg_window
    if scaled:
        jpeg = functools.partial(_scaled_window, size=size)
    image = tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: jpeg(encoded, window),
        lambda: _slice(decode(encoded), window),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _slice(image, window):
    """Cuts a window out; an error where it is not all inside, as in a GIF's smaller frame."""
    return tf.slice(image, tf.pad(window[:2], [[0, 1]]), tf.concat([window[2:], [3]], 0))


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


def whole_image(encoded: tf.Tensor, exif_rotation: bool = False) -> tf.Tensor:
    """Decodes all of an image file, upright if wanted: () string -> (H, W, 3) uint8."""
    encoded, shape, turn = opened(encoded, exif_rotation)
    return decode_window(encoded, tf.concat([[0, 0], shape], 0), shape, 1, turn, False)
