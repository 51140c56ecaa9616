"""What is kept of every held-out image, so that images can be ranked exactly, on any replicas?"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from effnet_tf import multilabel


class Kept:
    """The label of every image and its logits; made under the scope of a strategy.

    Each replica fills in the images that it has seen, and leaves the others 0: added up, they are
    all there, to the bit.

    Args:
        images: how many.
        classes: how many.
        models: names of those that give logits.
    """

    def __init__(self, images: int, classes: int, models: Sequence[str]):
        self._labels = sum_variable((images,))
        self._logits = {name: sum_variable((images, classes)) for name in models}

    def clear(self) -> None:
        """Forgets all images."""
        for variable in (self._labels, *self._logits.values()):
            variable.assign(tf.zeros(variable.shape))

    def add(
        self,
        numbers: tf.Tensor,
        weights: tf.Tensor,
        labels: tf.Tensor,
        logits: Mapping[str, tf.Tensor],
    ) -> None:
        """Takes down the images of one replica's share of a batch.

        Args:
            numbers: (N,) int64, of the images.
            weights: (N,) float32, 0 for padding.
            labels: (N,) int64; -1 of a bad image.
            logits: {model: (N, classes) float32}.
        """
        places = numbers[:, tf.newaxis]
        # float32 has all whole numbers up to 2 ** 24, more labels than there are images.
        found = tf.where(weights > 0, tf.cast(labels, tf.float32), 0.0)
        self._labels.assign_add(tf.scatter_nd(places, found, self._labels.shape))
        for name, variable in self._logits.items():
            rows = tf.where(weights[:, tf.newaxis] > 0, logits[name], 0.0)
            variable.assign_add(tf.scatter_nd(places, rows, variable.shape))

    def read(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the labels, (N,) int64, and {model: (N, classes) float64 probabilities}."""
        labels = self._labels.read_value().numpy().astype("int64")
        chances = {
            name: multilabel.probabilities(each.read_value().numpy())
            for name, each in self._logits.items()
        }
        return labels, chances


def sum_variable(shape: Sequence[int] = ()) -> tf.Variable:
    """Returns a float32 variable of zeros: one per replica, added up when it is read.

    Exact, and no traffic inside the loop.
    """
    return tf.Variable(
        tf.zeros(shape),
        trainable=False,
        aggregation=tf.VariableAggregation.SUM,
        synchronization=tf.VariableSynchronization.ON_READ,
    )
