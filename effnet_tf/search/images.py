"""Which images are the small networks of a search trained on?

All of a data set, in memory, at one side; smaller sides are made of these. So hundreds of networks
train on the same pixels without a file being opened again.
"""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from effnet_tf import data
from effnet_tf.errors import InputError
from effnet_tf.recipes import Recipe

MOST_BYTES = 1 << 29  # of pixels; a training holds a second copy, at its own side
_BATCH = 256  # images that are decoded together


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
    method = "bilinear"
    if side < pixels.shape[1]:
        method = "area"
    parts = []
    for start in range(0, len(pixels), _BATCH):
        part = tf.image.resize(pixels[start : start + _BATCH], (side, side), method)
        parts.append(np.clip(np.rint(part.numpy()), 0, 255).astype(np.uint8))
    return np.concatenate(parts)


def load(
    dataset: str, side: int, data_dir: str | None = None, holdout: float = 0.2, **split: str | None
) -> Images:
    """Reads a data set into memory.

    Args:
        dataset: as of `Recipe`: "digits", "folder", "table", a TFDS data set on disk, ...
        side: of the square images, in pixels: the whole short side of each, resized.
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
        eval_crop_padding=0,
        scaled_decode=True,
        **split,  # type: ignore[arg-type]  # names of fields, all of them texts
    )
    source = data.open_source(recipe)
    count = source.num_train + source.num_eval
    if count * 3 * side**2 > MOST_BYTES:
        raise InputError(
            f"{source.name} has {count:,} images, which at {side} pixels take "
            f"{count * 3 * side**2 / 2**20:,.0f} MiB; a search keeps at most "
            f"{MOST_BYTES >> 20} MiB: take a smaller side, or fewer images."
        )
    train = _read(dataclasses.replace(source, held_out=source.train), recipe, side)
    held_out = _read(source, recipe, side)
    return Images(
        name=source.name,
        class_names=source.class_names,
        pixels=np.concatenate([train[0], held_out[0]]),
        labels=np.concatenate([train[1], held_out[1]]),
        held_out=np.repeat([False, True], [len(train[1]), len(held_out[1])]),
    )


def _read(source, recipe, side):
    """Returns (pixels, labels) of what a source holds out, without what cannot be read."""
    count = -(-source.num_eval // _BATCH)
    pixels, labels = [], []
    for batch in data.evaluation(source, recipe, side, _BATCH, count):
        # -1 marks what cannot be read, and weight 0 what fills the last batch up.
        usable = (batch["weights"].numpy() > 0) & (batch["labels"].numpy() >= 0)
        images = np.clip(np.rint(batch["images"].numpy()[usable]), 0, 255)
        pixels.append(images.astype(np.uint8))
        labels.append(batch["labels"].numpy()[usable])
    return np.concatenate(pixels), np.concatenate(labels)
