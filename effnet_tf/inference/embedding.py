"""What are the features of images, the numbers that a network's classifier reads?"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export import identify
from effnet_tf.inference import last_map, photos, predicting, subjects
from effnet_tf.inference.photos import Example

BATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Embedding:
    """The features of one image.

    Attributes:
        image: path of the file.
        features: (F,) float32; None of a bad image.
        fault: why the image cannot be used, in a few words; None: it can.
    """

    image: str
    features: np.ndarray | None = dataclasses.field(default=None, compare=False)
    fault: str | None = None


def embed(
    what: str,
    paths: Iterable[str | Example],
    *,
    options: subjects.Options | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Embedding]:
    """Computes the features of image files, one after the other.

    They are the mean over the network's last map, the `pooled_features` of `feature_extractor`;
    of a SavedModel, what the object itself gives.

    Args:
        what: the network; see `subjects.open_subject`. A run, a .keras file or weights; or a
            SavedModel of `export`.
        paths: image files; see `finding.Finder` for folders and patterns. They are taken from the
            iterable as they are needed.
        options: what else is said of the network.
        batch_size: images that are computed together.

    Yields:
        An `Embedding` for each, in their order. A bad image is one with a `fault`.

    Raises:
        InputError: the network cannot be used, or its features cannot be reached.
    """
    yield from Embedder(subjects.open_subject(what, options)).run(paths, batch_size)


class Embedder:
    """Computes the features of images with a network that is open.

    Args:
        subject: the network.

    Attributes:
        width: F, numbers of each image.

    Raises:
        InputError: its features cannot be reached.
    """

    def __init__(self, subject: subjects.Subject):
        self._subject = subject
        self._compute = _computing(subject)
        blank = np.zeros((1, *subject.size, subject.layout.channels), "float32")
        self.width = self._compute(blank).shape[-1]

    def run(self, paths: Iterable[str | Example], batch_size: int) -> Iterator[Embedding]:
        """Yields an `Embedding` of each image file, in their order."""
        for group in predicting.groups(photos.examples(paths, self._subject), batch_size):
            yield from self._of(group)

    def _of(self, group: Sequence[Example]):
        good = [example.pixels for example in group if example.pixels is not None]
        rows = iter(())
        if good:
            rows = iter(self._compute(np.stack(good)))
        for example in group:
            if example.pixels is None:
                yield Embedding(example.title, fault=example.fault)
            else:
                yield Embedding(example.title, next(rows))


def _computing(subject):
    """Returns a function from images as the subject takes them to (N, F) float32."""
    if subject.model is None:
        return subject.features or _refuse(subject)
    model = last_map.split(subject)
    pooled = keras.Model(model.inputs[0], model.output["map"])

    @tf.function(reduce_retracing=True)
    def compute(images):
        return tf.reduce_mean(tf.cast(pooled(images, training=False), tf.float32), (1, 2))

    def of_images(images):
        return compute(tf.constant(subject.layout.as_type(images))).numpy()

    return of_images


def _refuse(subject):
    kind = identify.kind(subject.path)
    raise InputError(
        f"'{subject.path}' is a {kind} file, which gives its answers and not its features: give "
        "the run, .keras file or weights that it was made from, or a SavedModel of `export`."
    )
