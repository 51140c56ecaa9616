"""A network of stock Keras layers, as keras.applications builds them, with statistics."""

import keras
import numpy as np

from tests.helpers.tiny_net import randomise_batch_norm

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])


def tiny(side=32, *, channels=3, classes=3, activation="softmax", name="tiny", seed=0):
    """keras.applications' EfficientNet of few channels, with ImageNet's pixel constants."""
    keras.utils.set_random_seed(seed)
    model = keras.src.applications.efficientnet.EfficientNet(
        0.25,
        0.3,
        side,
        0.2,
        weights=None,
        include_top=side is not None,  # with it they want a side
        pooling="avg",
        input_shape=(side, side, channels),
        classes=classes,
        classifier_activation=activation,
        name=name,
        weights_name="b0",
    )
    set_constants(model, MEAN[:channels] / 255, np.square(STD[:channels] / 255))
    return randomise_batch_norm(model, seed)


def set_constants(model, mean, variance):
    """Gives the `Normalization` of a model these weights, and makes it compute with them."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.adapt_mean.assign(mean)
            layer.adapt_variance.assign(variance)
            layer.finalize_state()
