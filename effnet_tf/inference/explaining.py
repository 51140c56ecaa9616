"""Which part of an image speaks for a class?

Grad-CAM: Selvaraju et al., arXiv 1610.02391. Integrated gradients: Sundararajan et al.,
arXiv 1703.01365. Both explain the logit of a class, before softmax or sigmoid.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from effnet_tf.errors import InputError, nearest
from effnet_tf.export import identify
from effnet_tf.inference import last_map, photos, predicting, subjects
from effnet_tf.inference.options import METHODS
from effnet_tf.inference.photos import Example

BATCH_SIZE = 8
STEPS = 32  # of the integral; the paper takes 20 to 300
Heats = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _nothing():
    return np.zeros((0, 0, 0), "float32")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What speaks for some classes in one image.

    Attributes:
        image: path of the file.
        classes: names of the classes that are explained; () of a bad image.
        probabilities: of these, in [0, 1].
        heats: (classes, H, W) float32, at least 0: how much each pixel speaks for a class, in
            logits; with Grad-CAM in units of its own. Of no classes for a bad image.
        pixels: what the network saw, (H, W, C) float32 in [0, 255]; empty for a bad image.
        fault: why the image cannot be used, in a few words; None: it can.
    """

    image: str
    classes: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    heats: np.ndarray = dataclasses.field(default_factory=_nothing, compare=False, repr=False)
    pixels: np.ndarray = dataclasses.field(default_factory=_nothing, compare=False, repr=False)
    fault: str | None = None


def explain(
    what: str,
    paths: Iterable[str | Example],
    *,
    options: subjects.Options | None = None,
    top: int = 1,
    classes: Sequence[str] = (),
    method: str = METHODS[0],
    batch_size: int = BATCH_SIZE,
) -> Iterator[Explanation]:
    """Says which parts of images speak for a class, one image after the other.

    Args:
        what: the network: a run, a .keras file, or weights; see `subjects.open_subject`.
        paths: image files; see `finding.Finder` for folders and patterns. They are taken from the
            iterable as they are needed.
        options: what else is said of the network.
        top: how many of the best classes of each image are explained.
        classes: names of classes to explain in their place.
        method: "grad_cam", or "integrated_gradients" between a black image and this one.
        batch_size: images that are computed together.

    Yields:
        An `Explanation` of each, in their order. A bad image is one with a `fault`.

    Raises:
        InputError: the network cannot be used or has no gradients, or there is no such class or
            method.
    """
    explainer = Explainer(subjects.open_subject(what, options), top, classes, method)
    yield from explainer.run(paths, batch_size)


class Explainer:
    """Explains what a network that is open says of images.

    Args:
        subject: the network.
        top: how many of the best classes are explained.
        classes: names of classes to explain in their place.
        method: one of `METHODS`.

    Attributes:
        count: how many classes are explained of each image.

    Raises:
        InputError: it has no gradients, or there is no such class or method.
    """

    def __init__(
        self, subject: subjects.Subject, top: int, classes: Sequence[str], method: str
    ) -> None:
        if method not in METHODS:
            raise InputError(f"method is {method!r}; it must be one of {', '.join(METHODS)}.")
        _check_gradients(subject, method)
        self._subject, self._names = subject, predicting.names_of(subject)
        self._chosen = [_number(name, self._names) for name in classes]
        self.count = len(self._chosen) or min(top, subject.classes)
        self._heats = _METHODS[method](_split(subject), subject.layout.dtype)

    def run(self, paths: Iterable[str | Example], batch_size: int) -> Iterator[Explanation]:
        """Yields an `Explanation` of each image file, in their order."""
        for group in predicting.groups(photos.examples(paths, self._subject), batch_size):
            yield from self._of(group)

    def _of(self, group: Sequence[Example]):
        good = [example.pixels for example in group if example.pixels is not None]
        rows = iter(())
        if good:
            rows = self._explained(np.stack(good))
        for example in group:
            if example.pixels is None:
                yield Explanation(example.title, fault=example.fault)
            else:
                names, chances, heats = next(rows)
                yield Explanation(example.title, names, chances, heats, example.pixels)

    def _explained(self, images):
        """Yields (class names, probabilities, heats) of each image (N, H, W, C)."""
        answers = self._subject.answer(images)
        numbers = np.argsort(-answers, axis=-1, kind="stable")[:, : self.count]
        if self._chosen:
            numbers = np.tile(self._chosen, (len(images), 1))
        heats = self._heats(self._subject.layout.as_type(images), numbers)
        heats = _resized(heats, images.shape[1:3])
        for chosen, row, each in zip(numbers.tolist(), answers, heats):
            names = tuple(self._names[number] for number in chosen)
            yield names, tuple(float(row[number]) for number in chosen), each


def _check_gradients(subject, method):
    if subject.model is None:
        kind = identify.kind(subject.path)
        raise InputError(
            f"'{subject.path}' is a {kind} file, which has no gradients and so cannot be "
            "explained: give the run, .keras file or weights that it was made from."
        )
    if subject.layout.channels_first:
        raise InputError(
            f"'{subject.path}' takes images whose channels come first; explained are networks of "
            "(N, H, W, C) alone."
        )
    if method != METHODS[0] and not subject.layout.dtype.startswith(("float", "bfloat")):
        raise InputError(
            f"'{subject.path}' takes whole numbers ({subject.layout.dtype}), which have no "
            f"gradients: explain it with --method {METHODS[0]}."
        )


def _split(subject):
    model = last_map.split(subject)
    scores = model.output["scores"]
    if len(scores.shape) != 2:
        raise InputError(
            f"{subject.name} gives {tuple(scores.shape)} per batch of images, and not one score "
            "for each class, so there is no class to explain."
        )
    return model


def _number(name, names):
    """Returns the number of the class that a person has named."""
    found = [number for number, other in enumerate(names) if other == name]
    if not found:
        found = [
            number for number, other in enumerate(names) if other.casefold() == name.casefold()
        ]
    if not found:
        raise InputError(f"The network has no class '{name}'. {nearest(name, names)}")
    if len(found) > 1:
        raise InputError(
            f"{len(found)} classes of the network are called '{name}', so it is not clear which "
            "one is meant."
        )
    return found[0]


def _resized(heats, size):
    """(N, k, h, w) -> (N, k, H, W), bilinear."""
    last = np.moveaxis(heats, 1, -1)
    return np.moveaxis(tf.image.resize(last, size).numpy(), -1, 1)


# --- methods ------------------------------------------------------------------------------------


def _slopes(scores, numbers, of):
    """Yields the gradient of the chosen score of each image, (N,) for each of k, at a tensor."""
    chosen = tf.gather(scores, numbers, batch_dims=1)
    for rank in range(numbers.shape[1]):
        # Not a tape: a tape does not see what lies behind whole numbers or frozen weights.
        (found,) = tf.gradients(
            chosen[:, rank], of, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        yield tf.cast(found, tf.float32)


def grad_cam(model: keras.Model, dtype: str = "float32") -> Heats:
    """Returns what computes Grad-CAM.

    The maps of the last layer, each weighed with the mean of the score's gradient over it; then
    their sum, where that is above 0 (equations 1 and 2).

    Args:
        model: of `last_map.split`.
        dtype: of its images.

    Returns:
        A function from images (N, H, W, C) and class numbers (N, k) to (N, k, h, w) float32.
    """

    @tf.function(reduce_retracing=True)
    def compute(images, numbers):
        found = model(images, training=False)
        maps, heats = tf.cast(found["map"], tf.float32), []
        for slopes in _slopes(found["scores"], numbers, found["map"]):
            weights = tf.reduce_mean(slopes, (1, 2), keepdims=True)
            heats.append(tf.nn.relu(tf.reduce_sum(weights * maps, -1)))
        return tf.stack(heats, 1)

    return lambda images, numbers: compute(tf.constant(images, dtype), numbers).numpy()


def attributions(model: keras.Model, dtype: str = "float32") -> Heats:
    """Returns what computes integrated gradients from a black image to the image.

    Their sum over the pixels is how much higher the score is than that of the black image.

    Args:
        model: of `last_map.split`.
        dtype: of its images.

    Returns:
        A function from images (N, H, W, C) and class numbers (N, k) to (N, k, H, W) float32, of
        both signs: the sum over the channels of each pixel.
    """

    @tf.function(reduce_retracing=True)
    def slopes(images, numbers):
        scores = model(images, training=False)["scores"]
        return tf.stack(list(_slopes(scores, numbers, images)), 1)

    def compute(images, numbers):
        total = np.zeros((*numbers.shape, *images.shape[1:]), "float32")
        for step in range(STEPS):  # the middle of each part of the way
            total += slopes(tf.constant((step + 0.5) / STEPS * images, dtype), numbers).numpy()
        return (images[:, np.newaxis] * total / STEPS).sum(-1)

    return compute


def integrated_gradients(model: keras.Model, dtype: str = "float32") -> Heats:
    """As `attributions`, where they speak for the class: what is below 0 is 0."""
    compute = attributions(model, dtype)
    return lambda images, numbers: np.maximum(compute(images, numbers), 0)


_METHODS = dict(zip(METHODS, (grad_cam, integrated_gradients)))
