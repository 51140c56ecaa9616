"""How good does a small network become in a short training?

The stand-in for a full training that searches can afford. A network is built and its training
traced once, which takes seconds; then each seed draws new weights and runs the whole training in
one compiled loop. The result is a function of variant, images, settings and seed: the other seeds,
and what ran before, change nothing. (Processors differ in the last bits, and so do results.)
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.errors import InputError
from effnet_tf.layers import masks_from
from effnet_tf.models import model_fn
from effnet_tf.search.images import Images, resize
from effnet_tf.search.settings import Settings
from effnet_tf.variants import Variant

_EVALUATED = 512  # held-out images at once
_SETTINGS = Settings()


def train(
    variant: str | Variant, images: Images, seeds: Sequence[int], settings: Settings = _SETTINGS
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


# order, rates, seed; then pixels and labels to train on, and to evaluate on.
_SIGNATURE = (
    tf.TensorSpec((None, None), tf.int32),
    tf.TensorSpec((None,), tf.float32),
    tf.TensorSpec((), tf.int32),
    tf.TensorSpec((None, None, None, 3), tf.uint8),
    tf.TensorSpec((None,), tf.int64),
    tf.TensorSpec((None, None, None, 3), tf.uint8),
    tf.TensorSpec((None,), tf.int64),
)


class Trainer:
    """A network, built and traced once, to be trained for any number of seeds.

    Args:
        variant, images, settings: as of `train`, which says what is raised, too.
    """

    def __init__(self, variant: str | Variant, images: Images, settings: Settings = _SETTINGS):
        self.settings = settings
        self._model = model_fn(
            variant,
            len(images.class_names),
            classifier_activation=None,
            dropout_rate=settings.dropout_rate,
            drop_connect_rate=settings.drop_connect_rate,
            batch_norm_momentum=settings.batch_norm_momentum,
        )
        self._optimizer = _optimizer(settings)
        self._optimizer.build(self._model.trainable_variables)
        self._kept = [variable.numpy() for variable in self._optimizer.variables]
        # Traced here, for all sizes. There is nothing to convert; and what is called is no
        # tf.function, which would take those of several networks for one that is traced too often.
        self._run = tf.function(
            self._train_and_evaluate, input_signature=_SIGNATURE, autograph=False
        ).get_concrete_function()
        self.use(images, settings.epochs)

    def use(self, images: Images, epochs: int | None = None) -> None:
        """Trains on other images of the same classes from now on, or for other epochs.

        Raises:
            InputError: there are fewer training images than a batch has.
        """
        self._epochs = epochs or self.settings.epochs
        self._count = int((~images.held_out).sum())
        if self._count < self.settings.batch_size:
            raise InputError(
                f"{images.name} has {self._count} training images, and a batch of "
                f"{self.settings.batch_size} needs as many: use a smaller batch size."
            )
        side = self._model.input_shape[1]
        moved = _moved(images.pixels[~images.held_out], self.settings.shift)
        self._copies = len(moved)
        self._data = (
            tf.constant(np.concatenate([resize(each, side) for each in moved])),
            tf.constant(np.tile(images.labels[~images.held_out], len(moved))),
            tf.constant(resize(images.pixels[images.held_out], side)),
            tf.constant(images.labels[images.held_out]),
        )

    def accuracy(self, seed: int) -> float:
        """Returns the share of the held-out images that training with a seed gets right."""
        random = np.random.default_rng(seed)
        _draw_weights(self._model, random)
        for variable, value in zip(self._optimizer.variables, self._kept):
            variable.assign(value)
        order = tf.constant(self._order(random), tf.int32)
        key = tf.constant(seed % 2**31, tf.int32)
        return float(self._run(order, self._rates(len(order)), key, *self._data))

    def _order(self, random):
        """Draws which images each step takes: (steps, batch_size)."""
        used = self._count // self.settings.batch_size * self.settings.batch_size
        epochs = [random.permutation(self._count)[:used] for _ in range(self._epochs)]
        order = np.concatenate(epochs)
        copies = random.integers(0, self._copies, order.shape)
        return (order + copies * self._count).reshape(-1, self.settings.batch_size)

    def _rates(self, steps):
        """Returns the learning rate of each step: (steps,) float32."""
        settings = self.settings
        warmup = round(settings.warmup * steps)
        return optim.WarmupCosine(settings.learning_rate, steps, warmup)(tf.range(steps))

    def _train_and_evaluate(self, order, rates, seed, pixels, labels, test_pixels, test_labels):
        """Trains in the given order, then evaluates: () float64."""

        def step(number):
            self._optimizer.learning_rate.assign(tf.gather(rates, number))
            chosen = tf.gather(order, number)
            batch = tf.ensure_shape(tf.gather(pixels, chosen), (None, *self._model.input_shape[1:]))
            self._step(batch, tf.gather(labels, chosen), tf.stack([seed, number]))
            return number + 1

        last = tf.while_loop(
            lambda number: number < tf.size(rates), step, [tf.constant(0)], parallel_iterations=1
        )
        with tf.control_dependencies(last):
            return self._evaluated(test_pixels, test_labels)

    def _step(self, pixels, labels, key):
        wanted = tf.one_hot(labels, self._model.output_shape[-1])
        with masks_from(key), tf.GradientTape() as tape:
            scores = self._model(pixels, training=True)
            losses = keras.losses.categorical_crossentropy(
                wanted, scores, from_logits=True, label_smoothing=self.settings.label_smoothing
            )
            loss = tf.reduce_mean(losses)
        variables = self._model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        self._optimizer.apply(gradients, variables)

    def _evaluated(self, pixels, labels):
        def add(start, right):
            part = slice(start, start + _EVALUATED)
            best = tf.argmax(self._model(pixels[part], training=False), 1)
            hits = tf.cast(tf.equal(best, labels[part]), tf.float64)
            return start + _EVALUATED, right + tf.reduce_sum(hits)

        count = tf.size(labels)
        nothing = tf.constant(0), tf.constant(0.0, tf.float64)
        _, right = tf.while_loop(lambda start, right: start < count, add, nothing)
        return right / tf.cast(count, tf.float64)


def _optimizer(settings):
    return optim.SGD(
        settings.learning_rate,  # each step sets its own
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
