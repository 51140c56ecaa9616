"""What kind of images does an opened file take: of which size, channels, order and type?

Everybody who feeds a file (classify, bench, `load`) and who tells what it takes (inspect) asks
here. Images are (N, H, W, C) everywhere else, with pixels in [0, 255].
"""

import dataclasses

import numpy as np

from effnet_tf.errors import InputError, printable

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
# What image files can give, and how it is called.
KINDS = {1: "grey", 3: "RGB", 4: "RGBA"}
GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green and blue: those of tf.image


@dataclasses.dataclass(frozen=True)
class Layout:
    """The images that a file takes.

    Attributes:
        path: of the file, for messages.
        name: of the input.
        shape: as the file has it, None where any will do.
        dtype: of its numbers, such as "uint8".
        channels_first: whether `shape` is (N, C, H, W).
    """

    path: str
    name: str
    shape: tuple[int | None, ...]
    dtype: str
    channels_first: bool

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """(N, H, W, C), None where any will do."""
        if not self.channels_first:
            return self.shape
        batch, channels, height, width = self.shape
        return batch, height, width, channels

    @property
    def channels(self) -> int:
        """How many; 3 where any will do."""
        return self.image_shape[3] or 3

    def __str__(self):
        batch, height, width, _ = self.image_shape
        kind = KINDS.get(self.channels, f"{self.channels}-channel")
        order, images = "", f"{batch or 'any number of'} images"
        if self.channels_first:
            order = ", channels first"
        if batch == 1:
            images = "1 image"
        return (
            f"{images} per call: {kind}, {height or 'any'} x {width or 'any'}, {self.dtype}{order}"
        )

    def check(self, images: np.ndarray) -> None:
        """Raises InputError unless the file takes images (N, H, W, C)."""
        wanted = self.image_shape[1:]
        fits = images.ndim == 4 and all(
            side in (None, given) for side, given in zip(wanted, images.shape[1:])
        )
        if not fits:
            raise InputError(
                f"'{self.path}' takes images of {_sides(wanted)} (height, width, channels); these "
                f"are {_sides(images.shape[1:])}."
            )

    def from_rgb(self, images: np.ndarray) -> np.ndarray:
        """Returns RGB images (N, H, W, 3) as ones of the file's channels; all is opaque.

        Raises:
            InputError: it takes a number of channels that image files do not have.
        """
        if self.channels not in KINDS:
            raise InputError(
                f"'{self.path}' takes images of {self.channels} channels; image files "
                "have 1, 3 or 4: it cannot be tried on them."
            )
        if self.channels == 1:
            grey = images.astype("float32") @ np.float32(GREY_WEIGHTS)
            return np.round(grey)[..., np.newaxis].astype(images.dtype)
        if self.channels == 4:
            return np.concatenate([images, np.full_like(images[..., :1], 255)], -1)
        return images

    def arranged(self, pixels: np.ndarray) -> np.ndarray:
        """Returns (N, H, W, C) float pixels in the order of the file's axes."""
        if self.channels_first:
            return pixels.transpose(0, 3, 1, 2)
        return pixels

    def as_type(self, pixels: np.ndarray) -> np.ndarray:
        """Returns pixels in [0, 255] in the file's type: signed bytes are 128 less."""
        if self.dtype in FLOATS:
            return pixels.astype(self.dtype)
        if self.dtype == "int8":
            pixels = pixels - 128
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(pixels), limits.min, limits.max).astype(self.dtype)


def of_inputs(path: str, inputs: list) -> Layout:
    """Returns the `Layout` of a file.

    Args:
        path: of the file.
        inputs: (name, shape, type) of each; in a shape, None or a negative number is any.

    Raises:
        InputError: it takes something else than one batch of images.
    """
    if len(inputs) != 1:
        raise InputError(f"'{path}' takes {len(inputs)} inputs; a classifier takes images alone.")
    name, shape, dtype = inputs[0]
    if dtype not in FLOATS + INTEGERS:
        raise InputError(
            f"'{path}' does not take images: its input '{printable(name)}' is {printable(dtype)}."
        )
    shape = tuple(map(_side, shape))
    if len(shape) != 4:
        raise InputError(f"'{path}' does not take images (N, H, W, C): its input is {shape}.")
    return Layout(path, name, shape, dtype, _is_channels_first(shape))


def _side(number):
    if number is None or number < 0:
        return None
    return int(number)


def _is_channels_first(shape):
    """(N, 3, 224, 224) is, (N, 224, 224, 3) is not; where both could be, the last are channels."""
    return shape[1] in KINDS and shape[3] not in KINDS


def _sides(sides):
    return " x ".join(str(side or "any") for side in sides)
