"""Which images are the small networks of a search trained on?

All of a data set, in memory, at one side; smaller sides are made of these. So hundreds of networks
train on the same pixels without a file being opened again.
"""

import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from effnet_tf import data
from effnet_tf.data import batches, crops
from effnet_tf.data.records import Records, or_else, untuned
from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe

MOST_BYTES = 1 << 29  # of pixels; a training holds a second copy, at its own side
_BATCH = 256  # images that are read, or resized, together


@dataclasses.dataclass(frozen=True)
class Images:
    """A data set in memory.

    Attributes:
        name: of the data set, for people.
        class_names: one name per label.
        pixels: (N, S, S, 3) uint8 in [0, 255].
        labels: (N,) int64, indices of `class_names`.
        held_out: (N,) bool, which images are evaluated on instead of trained on.
    """

    name: str
    class_names: tuple[str, ...]
    pixels: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray

    @property
    def side(self) -> int:
        """Pixels of a side."""
        return self.pixels.shape[1]

    def fold(self, number: int, of: int) -> "Images":
        """Returns the same images with another part held out: that of number `number` of `of`.

        The parts are equally large, disjoint, and have the same share of every class. Which
        image is in which part does not depend on what is held out here.

        Raises:
            InputError: there is no such part, or a class has fewer images than there are parts.
        """
        if of < 2 or not 0 <= number < of:
            raise InputError(f"There is no fold {number} of {of}: they count from 0, and are >= 2.")
        part = np.empty(len(self.labels), int)
        dealt = 0
        for label in np.unique(self.labels):
            those = np.flatnonzero(self.labels == label)
            if len(those) < of:
                raise InputError(
                    f"{self.name}: the class '{self.class_names[label]}' has {len(those)} images, "
                    f"too few for {of} folds."
                )
            shuffled = np.random.default_rng(int(label)).permutation(those)
            part[shuffled] = (dealt + np.arange(len(those))) % of
            dealt += len(those)
        return dataclasses.replace(self, held_out=part == number)

    def resized(self, side: int) -> np.ndarray:
        """Returns the pixels at another side, see `resize`."""
        return resize(self.pixels, side)

    def digest(self) -> str:
        """Returns 12 characters that differ where pixels, labels or what is held out differ."""
        found = hashlib.sha256()
        for part in (self.pixels, self.labels, self.held_out):
            found.update(np.ascontiguousarray(part).tobytes())
        return found.hexdigest()[:12]


def resize(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resizes images: (N, S, S, 3) uint8 -> (N, side, side, 3) uint8.

    A smaller image has the means over the areas of its pixels, a larger one is bilinear.
    """
    if pixels.shape[1] == side:
        return pixels
    starts = range(0, len(pixels), _BATCH)
    return np.concatenate([_resize(pixels[i : i + _BATCH], side).numpy() for i in starts])


def _resize(images, side):
    """Resizes square images: (N, H, W, 3) uint8 -> (N, side, side, 3) uint8."""
    size = side, side
    resized = tf.cond(
        tf.shape(images)[1] > side,
        lambda: tf.image.resize(images, size, "area"),
        lambda: tf.image.resize(images, size),
    )
    return crops.to_bytes(resized)


def load(
    dataset: str, side: int, data_dir: str | None = None, holdout: float = 0.2, **split: str | None
) -> Images:
    """Reads a data set into memory.

    Args:
        dataset: as of `Recipe`: "digits", "folder", "table", a TFDS data set on disk, ...
        side: of the images, in pixels; of each its central square is taken, and resized.
        data_dir: where it lies, as of `Recipe`.
        holdout: fraction of each class held out where the data set has no part for that.
        **split: `train_split` and `eval_split`, as of `Recipe`.

    Raises:
        InputError: there is no such data set, it cannot be used, or is too large for memory.
    """
    recipe = Recipe(
        dataset=dataset,
        data_dir=data_dir,
        holdout=holdout,
        batch_size=1,
        **split,  # type: ignore[arg-type]  # names of fields, all of them texts
    )
    source = data.open_source(recipe)
    count = source.num_train + source.num_eval
    if count * 3 * side**2 > MOST_BYTES:
        raise InputError(
            f"{source.name} has {count:,} images, which at {side} pixels take "
            f"{count * 3 * side**2 / 2**20:,.0f} MiB; a search keeps at most "
            f"{MOST_BYTES >> 20} MiB: take smaller images, or fewer."
        )
    classes = len(source.class_names)
    train, held_out = (_read(part, classes, side) for part in (source.train, source.held_out))
    kept = len(train[1]) + len(held_out[1])
    if kept < count:
        log.info(f"{source.name}: {count - kept:,} images cannot be used, and are left out.")
    return Images(
        name=source.name,
        class_names=source.class_names,
        pixels=np.concatenate([train[0], held_out[0]]),
        labels=np.concatenate([train[1], held_out[1]]),
        held_out=np.repeat([False, True], [len(train[1]), len(held_out[1])]),
    )


def _read(records: Records, classes, side):
    """Returns (pixels, labels) of the records that can be used, in order."""

    @tf.autograph.experimental.do_not_convert
    def prepare(number, raw):
        def attempt():
            encoded, label = records.load(number, raw)
            square = crops.training_crop(  # of the whole area: the central square
                encoded,
                side,
                crop_area_min=1,
                crop_padding=0,
                seed=tf.zeros(2, tf.int64),
                scaled_decode=True,
            )
            return _resize(square[tf.newaxis], side)[0], tf.cast(label, tf.int64)

        def give_up():
            return tf.zeros((side, side, 3), tf.uint8), tf.constant(-1, tf.int64)

        return or_else(attempt, give_up)

    stream = batches.in_order(records).unbatch().map(prepare, os.cpu_count()).batch(_BATCH)
    parts = list(untuned(stream).as_numpy_iterator())
    pixels, labels = (np.concatenate(each) for each in zip(*parts))
    usable = (labels >= 0) & (labels < classes)
    return pixels[usable], labels[usable]
