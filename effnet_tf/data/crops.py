"""Which part of an image does the network see, and how is it resized?

The published preprocessing: the training crop, the evaluation crop, and how they are resized.
Images become uint8 bytes: the model normalises, on the device. There are three kinds:

  v1      tensorflow/tpu models/official/efficientnet, preprocessing.py: the central square, and
          TF1's bicubic.
  v2      google/automl efficientnetv2/preprocessing.py: TF2's bilinear; evaluation takes the
          central square below 320 pixels, and squeezes the whole image from there on.
  whole   the same file, `preprocess_for_finetune`: the whole image squeezed, at every size.
"""

import dataclasses
import functools

import tensorflow as tf

from effnet_tf.data import decoding
from effnet_tf.recipes import Recipe

# v1: distorted_bounding_box_crop. v2 leaves the ratio and the attempts to TensorFlow's defaults,
# which are close: 0.75 to 1.33, and 100.
MIN_OBJECT_COVERED = {"v1": 0.1, "v2": 0.0, "whole": 0.0}
ASPECT_RATIO_RANGE = (3 / 4, 4 / 3)
MAX_ATTEMPTS = 10
WHOLE_FROM = 320  # v2: pixels from which on evaluation looks at whole images


@dataclasses.dataclass(frozen=True)
class EvaluationCrop:
    """Makes of an image file what the network sees of it in evaluation: its central crop.

    One for evaluation batches, checks, exports and serving; it works eagerly, in a tf.function
    and in a tf.data pipeline:

        crop = EvaluationCrop(224, padding=32)
        images = files.map(crop)

    Attributes:
        size: side of the result in pixels.
        padding: of `evaluation_window`.
        exif_rotation: whether to turn the image as its Exif data say; the original does not.
        scaled_decode: whether to decode large JPEGs at 1/2, 1/4 or 1/8.
        kind: "v1", "v2" or "whole", see above.
    """

    size: int
    padding: int
    exif_rotation: bool = False
    scaled_decode: bool = False
    kind: str = "v1"

    @classmethod
    def of_recipe(cls, recipe: Recipe, size: int) -> "EvaluationCrop":
        """Returns the crop of a `Recipe` at a size in pixels."""
        padding, kind = padding_of_recipe(recipe, size), kind_of_recipe(recipe)
        return cls(size, padding, recipe.exif_rotation, recipe.scaled_decode, kind)

    def __call__(self, encoded: tf.Tensor) -> tf.Tensor:
        """Makes an evaluation image: () string -> (size, size, 3) float32.

        As published: neither rounded nor clipped, so that values may leave [0, 255] a little.

        Raises:
            tf.errors.InvalidArgumentError: it is not an image file that can be decoded.
        """
        encoded, shape, turn = decoding.opened(encoded, self.exif_rotation)
        window = evaluation_window(shape, self.size, self.padding, self.kind)
        image = decoding.decode_window(encoded, window, shape, self.size, turn, self.scaled_decode)
        return resized(image, self.size, self.kind)

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
    kind: str = "v1",
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
        kind: "v1", "v2" or "whole", see above.
    """
    encoded, shape, turn = decoding.opened(encoded, exif_rotation)
    if crop_area_min == 1:
        window = evaluation_window(shape, size, crop_padding, kind)
    else:
        fallback = functools.partial(whole_window, shape)
        if kind == "v1":
            fallback = functools.partial(central_window, shape, size, crop_padding)
        window = _random_window(shape, fallback, crop_area_min, seed, MIN_OBJECT_COVERED[kind])
    return decoding.decode_window(encoded, window, shape, size, turn, scaled_decode)


def evaluation_window(shape: tf.Tensor, size: int, crop_padding: int, kind: str) -> tf.Tensor:
    """What evaluation sees of an image, as (top, left, height, width) int32."""
    if squeezes(size, kind):
        return whole_window(shape)
    return central_window(shape, size, crop_padding, kind)


def squeezes(size: int, kind: str) -> bool:
    """Whether evaluation looks at whole images, whatever their sides, at a size in pixels."""
    return kind == "whole" or (kind == "v2" and size >= WHOLE_FROM)


def whole_window(shape: tf.Tensor) -> tf.Tensor:
    """The whole image, as (top, left, height, width) int32."""
    return tf.concat([[0, 0], shape[:2]], 0)


def central_window(shape: tf.Tensor, size: int, crop_padding: int, kind: str = "v1") -> tf.Tensor:
    """The central square crop, as (top, left, height, width) int32.

    Its side is size / (size + crop_padding) of the image's short side. The published
    accuracies were measured with a padding of 32; the original's last version takes
    0.875 of every size, `padding_of(0.875, size)`.
    """
    height, width = shape[0], shape[1]
    short = tf.cast(tf.minimum(height, width), tf.float32)
    # At least a pixel: images may be thinner than the padding leaves.
    side = tf.maximum(tf.cast(size / (size + crop_padding) * short, tf.int32), 1)
    odd = 1 if kind == "v1" else 0  # where a pixel is left over, v1 goes by it, v2 does not
    return tf.stack([(height - side + odd) // 2, (width - side + odd) // 2, side, side])


def padding_of(fraction: float, size: int) -> int:
    """Returns the crop padding that leaves a fraction of the short side (preprocessing.py)."""
    return round(size * (1 / fraction - 1))


def padding_of_recipe(recipe: Recipe, size: int) -> int:
    """Returns the padding of a recipe's central crop at a size in pixels."""
    if recipe.eval_crop_fraction is not None:
        return padding_of(recipe.eval_crop_fraction, size)
    return recipe.eval_crop_padding


def told(size: int, padding: int, kind: str) -> str:
    """Says which part of an image evaluation sees, such as "the middle 88% of the short side"."""
    if squeezes(size, kind):
        return "the whole image, squeezed to a square"
    if not padding:
        return "the whole short side"
    return f"the middle {size / (size + padding):.0%} of the short side"


def kind_of_recipe(recipe: Recipe) -> str:
    """Returns how a recipe's images are cut and resized: "v1", "v2" or "whole"."""
    if recipe.crops is not None:
        return recipe.crops
    return recipe.resolved_variant().crops


def _random_window(shape, fallback, area_min, seed, least_covered=MIN_OBJECT_COVERED["v1"]):
    """Draws the paper's crop; where it is the whole image, takes `fallback()` as published."""
    begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape[:2], [3]], 0),
        tf.zeros((1, 0, 4)),
        seed,
        min_object_covered=least_covered,
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


def resized(image: tf.Tensor, size: int, kind: str) -> tf.Tensor:
    """The resize of a kind: (H, W, 3) uint8 -> (size, size, 3) float32."""
    if kind == "v1":
        return bicubic(image, size)
    return tf.image.resize(image, (size, size))  # bilinear, with half-pixel centres


def resize(image: tf.Tensor, size: int, kind: str = "v1") -> tf.Tensor:
    """The resize of a kind, rounded: (H, W, 3) uint8 -> (size, size, 3) uint8.

    The original passes the floats on; ours are bytes, a quarter of the traffic to the device.
    """
    return to_bytes(resized(image, size, kind))


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
