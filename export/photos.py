"""How does an image file become what an exported file takes?"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from effnet_tf.errors import InputError, printable

if TYPE_CHECKING:
    from effnet_tf.export.layout import Layout


class Example:
    """An image to classify, or the reason why it cannot be used.

    Attributes:
        title: its path, or which one of a run it is.
        pixels: (H, W, C) uint8 as the file takes them, or None.
        label: name of its class, or None: not known.
        fault: why it cannot be used, or None.
    """

    def __init__(
        self,
        title: str,
        pixels: np.ndarray | None = None,
        label: str | None = None,
        fault: str | None = None,
    ):
        self.title, self.pixels, self.label, self.fault = title, pixels, label, fault


def from_files(paths: Iterable[str], file: str, layout: "Layout") -> Iterator[Example]:
    """Yields an `Example` of each image file, made as an exported file wants it.

    Args:
        paths: image files.
        file: the exported file; what it does not say about its images is assumed, and printed.
        layout: its `Layout`.
    """
    import tensorflow as tf

    from effnet_tf import local_files
    from effnet_tf.data import bad_images

    prepare = _preparation(file, layout)
    for path in paths:
        try:
            encoded = local_files.read(path, local_files.MAX_IMAGE_BYTES)
            fault = bad_images.fault(encoded)
        except (InputError, OSError, ValueError) as error:
            fault = _why(error, path)
        if fault:
            yield Example(path, fault=fault)
        else:
            yield Example(path, prepare(tf.constant(encoded)))


def _why(error, path):
    """Says why a file cannot be read; some messages name it already."""
    if isinstance(error, FileNotFoundError):
        return "there is no such image file"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error).removeprefix(f"'{path}' ").removesuffix(".")


def _preparation(file, layout):
    """Returns a function from the bytes of an image file to (H, W, C) uint8 of a layout."""
    from effnet_tf.export import identify

    about = identify.about(file)
    rgb = _rgb_preparation(file, about, *_size(file, about, layout.image_shape))
    layout.from_rgb(np.zeros((1, 1, 1, 3), "uint8"))  # refused before any image is read
    _say_channels(layout.channels)

    def prepare(encoded):
        pixels = layout.from_rgb(rgb(encoded)[np.newaxis])[0]
        if layout.channels == 4:
            pixels[..., 3] = rgb(_opacity(encoded))[..., 0]
        return pixels

    return prepare


def _say_channels(channels):
    if channels == 1:
        print("It takes grey images: 0.2989 red + 0.587 green + 0.114 blue of each pixel.")
    if channels == 4:
        print(
            "It takes RGBA images; images without an alpha channel are taken as fully opaque (255)."
        )


def _opacity(encoded):
    """Returns an image file of the same size whose pixels are grey: the opacity of another's."""
    import tensorflow as tf

    from effnet_tf.data import decoding

    data = encoded.numpy()
    if data[:4] == b"\x89PNG":
        opacity = tf.io.decode_png(encoded, channels=4)[..., 3:]
    else:
        opacity = tf.fill((*decoding.decode(encoded).shape[:2], 1), tf.constant(255, tf.uint8))
    return tf.io.encode_png(tf.tile(opacity, (1, 1, 3)), compression=1)


def _size(file, about, image_shape):
    """Returns the height and width of the images that a file takes."""
    height, width = image_shape[1:3]
    if about:
        height, width = height or about.image_size, width or about.image_size
    if not height or not width:
        raise InputError(
            f"'{file}' takes images of any size and does not say which size it was "
            "trained on, so image files cannot be prepared for it."
        )
    return height, width


def _rgb_preparation(file, about, height, width):
    """Returns a function from the bytes of an image file to (height, width, 3) uint8."""
    import tensorflow as tf

    from effnet_tf.data import crops, decoding

    if height == width:
        if about:
            crop = about.evaluation_crop(height)
        else:
            crop = crops.EvaluationCrop(height, padding=0)
            _say_assumption(file, "the central square of every image")
        return lambda encoded: crop.rounded(encoded).numpy()
    _say_assumption(file, "all of every image")
    return lambda encoded: crops.to_bytes(
        tf.image.resize(decoding.whole_image(encoded), (height, width), "bicubic")
    ).numpy()


def _say_assumption(file, part):
    print(
        f"'{printable(file)}' does not say how its images are cut: took {part}, scaled to its "
        f"size, {_range(file)}."
    )


def _range(file):
    from effnet_tf.export import identify

    if identify.normalization(file) is None:
        return "pixels in [0, 255]"
    return "pixels normalised as its metadata say"
