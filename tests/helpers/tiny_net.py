"""Networks of three and two blocks, for tests that build, compile or convert them many times."""

import contextlib
import dataclasses

import keras
import numpy as np

from effnet_tf import variants
from effnet_tf.recipes import RECIPES


def register():
    """Makes the variants "tiny" and "tinier" known to this process."""
    b0 = variants.VARIANTS["b0"]
    for name, stages in (("tiny", ((0, 1), (1, 2))), ("tinier", ((0, 2),))):
        variants.VARIANTS[name] = dataclasses.replace(
            b0,
            name=name,
            resolution=32,
            stem_filters=8,
            head_filters=16,
            stages=tuple(
                dataclasses.replace(b0.stages[number], filters=8, repeats=repeats)
                for number, repeats in stages
            ),
        )


@contextlib.contextmanager
def registered():
    """Makes them known for a while: the other tests of this process count the variants."""
    before = dict(variants.VARIANTS)
    register()
    try:
        yield
    finally:
        variants.VARIANTS.clear()
        variants.VARIANTS.update(before)


def scaled(phi, base="b0"):
    """A network of a small phi with its first three stages: a block of each, kernels of 3 and 5."""
    variant = variants.CompoundScaling().variant(phi, base=base)
    return dataclasses.replace(variant, stages=variant.stages[:3])


def randomise_batch_norm(model, seed=0):
    """Gives the batch norms of a model statistics as of a trained one; returns the model."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            for weight, value in (
                (layer.gamma, random.uniform(0.5, 1.5, shape)),
                (layer.beta, random.normal(0, 0.3, shape)),
                (layer.moving_mean, random.normal(0, 0.3, shape)),
                (layer.moving_variance, random.uniform(0.5, 1.5, shape)),
            ):
                weight.assign(value)
    return model


def recipe(**changes):
    """The recipe `smoke` with the tiny network, on coloured noise."""
    return dataclasses.replace(
        RECIPES["smoke"],
        **{
            "variant": "tiny",
            "phi": None,
            "dataset": "synthetic",
            "num_classes": 3,
            "batch_size": 16,
            "epochs": 4,
            "steps_per_loop": 3,
            **changes,
        },
    )
