"""What loss does a network learn by, and when is its answer right: of one class, or of several?

`Step` and `Evaluation` ask one of two objectives, which have the same methods.
"""

import math

import numpy as np
import tensorflow as tf

from effnet_tf.recipes import Recipe


class OneClass:
    """An image has one class: softmax cross-entropy.

    Args:
        classes: how many.
        smoothing: share of the uniform label in the targets, in [0, 1].
        class_weights: (classes,) float32, of their losses; None: all have 1.

    Attributes:
        outcomes: between how many an answer chooses.
        guessing: the loss of a network that knows nothing, in nats.
    """

    def __init__(self, classes: int, smoothing: float, class_weights: np.ndarray | None = None):
        self._classes, self._smoothing, self._weights = classes, smoothing, class_weights
        self.outcomes, self.guessing = classes, math.log(classes)

    def targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns what is learned: (N,) int64 -> (N, T) float32, of any linear mixture, too."""
        smoothing = self._smoothing
        targets = tf.one_hot(labels, self._classes) * (1 - smoothing) + smoothing / self._classes
        if self._weights is not None:
            # One more column: where images are mixed, so are their weights.
            weights = tf.gather(self._weights, labels)
            targets = tf.concat([targets, weights[:, tf.newaxis]], 1)
        return targets

    def losses(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the losses (N,) that are learned by, of `targets` and (N, classes) logits."""
        if self._weights is None:
            return tf.nn.softmax_cross_entropy_with_logits(targets, logits)
        losses = tf.nn.softmax_cross_entropy_with_logits(targets[:, :-1], logits)
        return losses * targets[:, -1]

    def plain_losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the losses (N,) of evaluation: neither smoothed nor weighted."""
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)

    def hits(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns (N,) float32, 1 where the best class is the label; a label of -1 has none."""
        return tf.cast(tf.argmax(logits, -1) == labels, tf.float32)


class SeveralClasses:
    """An image has any number of classes: sigmoid cross-entropy, the mean over the classes.

    The mean, as timm's BinaryCrossEntropy takes it: loss and learning rate then mean the same
    whatever the number of classes. Smoothing is timm's, too: a target of 1 becomes
    1 - smoothing + smoothing / classes, one of 0 smoothing / classes. Where images are mixed, so
    are their targets, in the same shares: as mixup and cutmix do it with one class.

    Args:
        label_sets: (labels, classes) bool, which classes a label means.
        smoothing: see above, in [0, 1].
        class_weights: (classes,) float32, of the loss where a class is present; None: all have 1.

    Attributes:
        outcomes: between how many an answer about a class chooses.
        guessing: the loss of a network that knows nothing, in nats.
    """

    outcomes = 2  # it is there, or not
    guessing = math.log(2)

    def __init__(
        self, label_sets: np.ndarray, smoothing: float, class_weights: np.ndarray | None = None
    ):
        self._sets, self._smoothing, self._weights = label_sets, smoothing, class_weights

    def _present(self, labels):
        """(N,) int64 -> (N, classes) float32, 1 where a class is present."""
        rows = tf.gather(tf.constant(self._sets), tf.maximum(labels, 0))
        return tf.cast(rows, tf.float32)

    def targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns what is learned: (N,) int64 -> (N, classes) float32, as of `OneClass`."""
        classes = self._sets.shape[1]
        return self._present(labels) * (1 - self._smoothing) + self._smoothing / classes

    def losses(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the losses (N,) that are learned by, of `targets` and (N, classes) logits."""
        weights = 1.0
        if self._weights is not None:
            weights = tf.constant(self._weights)
        each = tf.nn.weighted_cross_entropy_with_logits(targets, logits, weights)
        return tf.reduce_mean(each, -1)

    def plain_losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the losses (N,) of evaluation: neither smoothed nor weighted."""
        each = tf.nn.sigmoid_cross_entropy_with_logits(self._present(labels), logits)
        return tf.reduce_mean(each, -1)

    def hits(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns (N,) float32, 1 where all classes with a probability of 1/2 are right."""
        right = tf.reduce_all((logits >= 0) == (self._present(labels) > 0), -1)
        return tf.cast(right & (labels >= 0), tf.float32)


def of(
    recipe: Recipe,
    classes: int,
    class_weights: np.ndarray | None = None,
    label_sets: np.ndarray | None = None,
) -> OneClass | SeveralClasses:
    """Returns the objective of a recipe.

    Args:
        recipe: its label smoothing.
        classes: how many.
        class_weights: (classes,) float32; None: all have 1.
        label_sets: of a `data.Source`; None: an image has one class.
    """
    if label_sets is None:
        return OneClass(classes, recipe.label_smoothing, class_weights)
    return SeveralClasses(label_sets, recipe.label_smoothing, class_weights)
