"""How do image files become what a network takes, one after the other, however many?"""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from effnet_tf import local_files
from effnet_tf.data import bad_images, crops, decoding
from effnet_tf.errors import InputError, first_line, printable
from effnet_tf.inference.subjects import Subject
from effnet_tf.messages import log

AHEAD = 32  # images that are read and decoded while others are answered
_STRING = [tf.TensorSpec((), tf.string)]


class Example:
    """An image to classify, or the reason why it cannot be used.

    Attributes:
        title: its path, or which one of a run it is.
        pixels: (H, W, C) float32 or uint8 as the network takes them, or None.
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


def examples(paths: Iterable[str | Example], subject: Subject) -> Iterator[Example]:
    """Yields an `Example` of each image file, in their order; few are in memory at a time.

    Args:
        paths: image files; what is an `Example` already stays as it is.
        subject: the network, whose images are made.
    """
    prepare = preparation(subject)

    def make(path):
        if isinstance(path, Example):
            return path
        return _example(path, prepare)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting: collections.deque = collections.deque()
        for path in paths:
            waiting.append(pool.submit(make, path))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _example(path, prepare) -> Example:
    try:
        encoded = local_files.read(path, local_files.MAX_IMAGE_BYTES)
    except (InputError, OSError, ValueError) as error:
        return Example(path, fault=_why(error, path))
    try:
        return Example(path, prepare(tf.constant(encoded)))
    except tf.errors.OpError as error:
        # Looked at only now: it decodes the image once more.
        return Example(path, fault=bad_images.fault(encoded) or first_line(error))


def _why(error, path):
    """Says why a file cannot be read; some messages name it already."""
    if isinstance(error, FileNotFoundError):
        return "there is no such image file"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error).removeprefix(f"'{path}' ").removesuffix(".")


# --- pixels -------------------------------------------------------------------------------------


def preparation(subject: Subject) -> Callable[[tf.Tensor], np.ndarray]:
    """Returns a function from the bytes of an image file, () string, to (H, W, C) float32.

    As evaluation makes its images: neither rounded nor clipped after the resize.

    Raises:
        InputError: the network takes a number of channels that image files do not have.
    """
    layout, rgb = subject.layout, _rgb_preparation(subject)
    layout.from_rgb(np.zeros((1, 1, 1, 3), "float32"))  # refused before any image is read
    _say_channels(layout.channels)

    def prepare(encoded):
        pixels = layout.from_rgb(rgb(encoded).numpy()[np.newaxis])[0]
        if layout.channels == 4:
            pixels[..., 3] = rgb(_opacity(encoded)).numpy()[..., 0]
        return pixels

    return prepare


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in whole grey levels: (H, W, C) float32 about [0, 255] -> uint8."""
    return np.clip(np.round(pixels), 0, 255).astype("uint8")


def _say_channels(channels):
    if channels == 1:
        log.info("It takes grey images: 0.2989 red + 0.587 green + 0.114 blue of each pixel.")
    if channels == 4:
        log.info(
            "It takes RGBA images; images without an alpha channel are taken as fully opaque (255)."
        )


def _opacity(encoded):
    """Returns an image file of the same size whose pixels are grey: the opacity of another's."""
    data = encoded.numpy()
    if data[:4] == b"\x89PNG":
        opacity = tf.io.decode_png(encoded, channels=4)[..., 3:]
    else:
        opacity = tf.fill((*decoding.decode(encoded).shape[:2], 1), tf.constant(255, tf.uint8))
    return tf.io.encode_png(tf.tile(opacity, (1, 1, 3)), compression=1)


def _rgb_preparation(subject):
    """Returns a traced function from the bytes of an image file to (height, width, 3) float32."""
    height, width = subject.size
    if height == width:
        crop = crops.EvaluationCrop.of_recipe(subject.recipe, height)
        return tf.function(crop.__call__, input_signature=_STRING)
    log.info(
        f"'{printable(subject.path)}' takes images that are not square: took all of every image, "
        f"scaled to {height} x {width} pixels."
    )

    def whole(encoded):
        image = tf.image.resize(decoding.whole_image(encoded), (height, width), "bicubic")
        return tf.clip_by_value(image, 0.0, 255.0)

    return tf.function(whole, input_signature=_STRING)
