"""How good does a small network become in a short training?

The stand-in for a full training that searches can afford. A network is built and its training
traced once, which takes seconds; then each seed draws new weights and runs the whole training in
one compiled loop. The result is a function of variant, images, settings and seed: the other seeds,
and what ran before, change nothing. (Processors differ in the last bits, and so do results.)
"""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.errors import InputError
from effnet_tf.layers import masks_from
from effnet_tf.models import model_fn
from effnet_tf.search.images import Images, resize
from effnet_tf.variants import Variant

_EVALUATED = 512  # held-out images at once


@dataclasses.dataclass(frozen=True)
class Settings:
    """How small networks are trained: SGD with Nesterov momentum, its rate falling as a cosine.

    Attributes:
        epochs: passes over the training images, each without the images of a partial batch.
        batch_size: images in a step.
        learning_rate: at the top of the warm-up, > 0.
        warmup: share of the steps in which the rate rises from 0, in [0, 1).
        momentum: in [0, 1).
        weight_decay: of kernels, times the learning rate per step.
        label_smoothing: in [0, 1).
        dropout_rate: before the classifier, in [0, 1).
        drop_connect_rate: end of the ramp of stochastic depth, in [0, 1).
        batch_norm_momentum: of the moving statistics; the rows' 0.99 needs longer trainings.
        shift: training images move by up to so many pixels of `Images.side` in both directions.

    Raises:
        InputError: a value is out of range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 0.1
    warmup: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    dropout_rate: float = 0.0
    drop_connect_rate: float = 0.0
    batch_norm_momentum: float = 0.9
    shift: int = 0

    def __post_init__(self):
        for name, least in (("epochs", 1), ("batch_size", 1), ("shift", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise InputError(f"{name} is {value!r}; it must be a whole number, >= {least}.")
        for name in ("warmup", "momentum", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be in [0, 1).")
        if not (self.learning_rate > 0 and self.weight_decay >= 0):
            raise InputError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; the "
                "first must be above 0, the second not below."
            )


def train(
    variant: str | Variant, images: Images, seeds: Sequence[int], settings: Settings = Settings()
) -> np.ndarray:
    """Trains a network once for each seed, at its variant's own resolution.

    Args:
        variant: the network; its classifier gets the classes of the images.
        images: what to train and to evaluate on.
        seeds: of weights, order and masks, >= 0.
        settings: of the training.

    Returns:
        (len(seeds),) float64, the share of the held-out images that is classified correctly.

    Raises:
        InputError: unknown variant, a resolution too small for it, or fewer training images than
            a batch has.
    """
    trainer = Trainer(variant, images, settings)
    return np.array([trainer.accuracy(seed) for seed in seeds])


class Trainer:
    """A network, built and traced once, to be trained for any number of seeds.

    Args:
        variant, images, settings: as of `train`, which says what is raised, too.
    """

    def __init__(self, variant: str | Variant, images: Images, settings: Settings = Settings()):
        self.settings, self._count = settings, int((~images.held_out).sum())
        if self._count < settings.batch_size:
            raise InputError(
                f"{images.name} has {self._count} training images, and a batch of "
                f"{settings.batch_size} needs as many: use a smaller batch size."
            )
        self._model = model_fn(
            variant,
            len(images.class_names),
            classifier_activation=None,
            dropout_rate=settings.dropout_rate,
            drop_connect_rate=settings.drop_connect_rate,
            batch_norm_momentum=settings.batch_norm_momentum,
        )
        self._optimizer = _optimizer(settings, self._steps)
        self._optimizer.build(self._model.trainable_variables)
        self._kept = [variable.numpy() for variable in self._optimizer.variables]
        self._prepare(images)

    @property
    def _steps(self):
        return self.settings.epochs * (self._count // self.settings.batch_size)

    def _prepare(self, images):
        """Puts the images where the compiled training finds them, at the model's side."""
        side = self._model.input_shape[1]
        moved = _moved(images.pixels[~images.held_out], self.settings.shift)
        self._copies = len(moved)
        pixels = np.concatenate([resize(each, side) for each in moved])
        labels = np.tile(images.labels[~images.held_out], len(moved))
        self._train = tf.constant(pixels), tf.constant(labels)
        tested = resize(images.pixels[images.held_out], side)
        self._test = tf.constant(tested), tf.constant(images.labels[images.held_out])

    def accuracy(self, seed: int) -> float:
        """Returns the share of the held-out images that training with a seed gets right."""
        random = np.random.default_rng(seed)
        _draw_weights(self._model, random)
        for variable, value in zip(self._optimizer.variables, self._kept):
            variable.assign(value)
        order = tf.constant(self._order(random), tf.int32)
        return float(self._run(order, tf.constant(seed % 2**31, tf.int32)))

    def _order(self, random):
        """Draws which images each step takes: (steps, batch_size)."""
        used = self._count // self.settings.batch_size * self.settings.batch_size
        epochs = [random.permutation(self._count)[:used] for _ in range(self.settings.epochs)]
        order = np.concatenate(epochs)
        copies = random.integers(0, self._copies, order.shape)
        return (order + copies * self._count).reshape(-1, self.settings.batch_size)

    @tf.function(autograph=False)  # nothing to convert
    def _run(self, order, seed):
        """Trains in the given order, then evaluates: () float64."""

        def step(number):
            self._step(tf.gather(order, number), tf.stack([seed, number]))
            return number + 1

        last = tf.while_loop(
            lambda number: number < self._steps, step, [tf.constant(0)], parallel_iterations=1
        )
        with tf.control_dependencies(last):
            return self._evaluated()

    def _step(self, chosen, key):
        pixels, labels = self._train
        wanted = tf.one_hot(tf.gather(labels, chosen), self._model.output_shape[-1])
        with masks_from(key), tf.GradientTape() as tape:
            scores = self._model(tf.gather(pixels, chosen), training=True)
            losses = keras.losses.categorical_crossentropy(
                wanted, scores, from_logits=True, label_smoothing=self.settings.label_smoothing
            )
            loss = tf.reduce_mean(losses)
        variables = self._model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizer.apply(gradients, variables)

    def _evaluated(self):
        pixels, labels = self._test
        right = []
        for start in range(0, len(pixels), _EVALUATED):
            scores = self._model(pixels[start : start + _EVALUATED], training=False)
            best = tf.argmax(scores, 1)
            right.append(tf.equal(best, labels[start : start + _EVALUATED]))
        return tf.reduce_mean(tf.cast(tf.concat(right, 0), tf.float64))


def _optimizer(settings, steps):
    return optim.SGD(
        optim.WarmupCosine(settings.learning_rate, steps, round(settings.warmup * steps)),
        momentum=settings.momentum,
        nesterov=True,
        weight_decay=settings.weight_decay,
        not_decayed=[r"(^|/)(gamma|beta|bias)$"],
    )


def _moved(pixels, shift):
    """Returns copies of images (N, S, S, 3), moved by every distance up to `shift` pixels."""
    side = pixels.shape[1]
    around = ((0, 0), (shift, shift), (shift, shift), (0, 0))
    padded = np.pad(pixels, around, mode="edge")
    return [
        padded[:, row : row + side, column : column + side]
        for row in range(2 * shift + 1)
        for column in range(2 * shift + 1)
    ]


def _draw_weights(model, random):
    """Gives a model new weights, drawn as its layers say; statistics and constants as at first."""
    for layer in model._flatten_layers(include_self=False):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            initializer = _initializer(layer, variable)
            if initializer is not None:
                config = initializer.get_config()
                if "seed" in config:
                    config["seed"] = int(random.integers(2**31))
                variable.assign(type(initializer).from_config(config)(variable.shape))


def _initializer(layer, variable):
    """Returns what Keras drew a variable with; None for pixel constants, which stay."""
    name = variable.name
    for attribute in (f"{name}_initializer", name.replace("kernel", "depthwise_initializer")):
        found = getattr(layer, attribute, None)
        if isinstance(found, keras.initializers.Initializer):
            return found
    return None
