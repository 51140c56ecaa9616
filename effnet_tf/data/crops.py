"""Which part of an image does the network see, and how is it resized?

The published preprocessing: the training crop, the evaluation crop, and TF1's bicubic
resize. Images become uint8 bytes: the model normalises, on the device.

Source (preprocessing.py below): tensorflow/tpu models/official/efficientnet.
"""

import dataclasses
import functools

import tensorflow as tf

from effnet_tf.data import decoding
from effnet_tf.recipes import Recipe

# preprocessing.py: distorted_bounding_box_crop.
MIN_OBJECT_COVERED = 0.1
ASPECT_RATIO_RANGE = (3 / 4, 4 / 3)
MAX_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class EvaluationCrop:
    """Makes of an image file what the network sees of it in evaluation: its central crop.

    One for evaluation batches, checks, exports and serving; it works eagerly, in a tf.function
    and in a tf.data pipeline:

        crop = EvaluationCrop(224, padding=32)
        images = files.map(crop)

    Attributes:
        size: side of the result in pixels.
        padding: of `central_window`.
        exif_rotation: whether to turn the image as its Exif data say; the original does not.
        scaled_decode: whether to decode large JPEGs at 1/2, 1/4 or 1/8.
    """

    size: int
    padding: int
    exif_rotation: bool = False
    scaled_decode: bool = False

    @classmethod
    def of_recipe(cls, recipe: Recipe, size: int) -> "EvaluationCrop":
        """Returns the crop of a `Recipe` at a size in pixels."""
        return cls(
            size, padding_of_recipe(recipe, size), recipe.exif_rotation, recipe.scaled_decode
        )

    def __call__(self, encoded: tf.Tensor) -> tf.Tensor:
        """Makes an evaluation image: () string -> (size, size, 3) float32.

        As published: neither rounded nor clipped, so that values may leave [0, 255] a little.

        Raises:
            tf.errors.InvalidArgumentError: it is not an image file that can be decoded.
        """
        encoded, shape, turn = decoding.opened(encoded, self.exif_rotation)
        window = central_window(shape, self.size, self.padding)
        image = decoding.decode_window(encoded, window, shape, self.size, turn, self.scaled_decode)
        return bicubic(image, self.size)

    def rounded(self, encoded: tf.Tensor) -> tf.Tensor:
        """Makes an evaluation image in whole grey levels: () string -> (size, size, 3) uint8."""
        return to_bytes(self(encoded))


def training_crop(
    encoded: tf.Tensor,
    size: int,
    *,
    crop_area_min: float,
    crop_padding: int,
    seed: tf.Tensor,
    exif_rotation: bool = False,
    scaled_decode: bool = False,
) -> tf.Tensor:
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
    encoded, shape, turn = decoding.opened(encoded, exif_rotation)
    central = functools.partial(central_window, shape, size, crop_padding)
    if crop_area_min == 1:
        window = central()
    else:
        window = _random_window(shape, central, crop_area_min, seed)
    return decoding.decode_window(encoded, window, shape, size, turn, scaled_decode)


def central_window(shape: tf.Tensor, size: int, crop_padding: int) -> tf.Tensor:
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


def padding_of(fraction: float, size: int) -> int:
    """Returns the crop padding that leaves a fraction of the short side (preprocessing.py)."""
    return round(size * (1 / fraction - 1))


def padding_of_recipe(recipe: Recipe, size: int) -> int:
    """Returns the padding of a recipe's central crop at a size in pixels."""
    if recipe.eval_crop_fraction is not None:
        return padding_of(recipe.eval_crop_fraction, size)
    return recipe.eval_crop_padding


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


def bicubic(image: tf.Tensor, size: int) -> tf.Tensor:
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


def resize(image: tf.Tensor, size: int) -> tf.Tensor:
    """TF1's bicubic resize, rounded: (H, W, 3) uint8 -> (size, size, 3) uint8.

    The original passes the floats on; ours are bytes, a quarter of the traffic to the device.
    """
    return to_bytes(bicubic(image, size))


def to_bytes(image: tf.Tensor) -> tf.Tensor:
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
