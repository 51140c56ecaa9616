"""A tiny CondConv for tests of every kind."""

import dataclasses

import keras
import numpy as np

import effnet_tf
from effnet_tf import variants
from effnet_tf.layers import Routing
from effnet_tf.layers.cond_conv import MixedConvolution
from tests.helpers import tiny_net

SHAPE = (48, 33, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (3, *SHAPE)).astype("float32")


def row() -> variants.Variant:
    """Returns an ordinary block, two with experts, and one that does not expand."""
    full = variants.VARIANTS["condconv-b0-4e"]
    plain, *_, strided, last = full.stages
    stages = (
        dataclasses.replace(plain, filters=8, input_filters=8),
        dataclasses.replace(
            strided, filters=16, input_filters=8, repeats=2, expand_ratio=4, experts=3
        ),
        dataclasses.replace(last, filters=16, input_filters=16, expand_ratio=1, experts=3),
    )
    return dataclasses.replace(
        full, name="condconv-tiny", stages=stages, stem_filters=8, head_filters=16, resolution=32
    )


def build(classes: int | None = 3, **options) -> keras.Model:
    """Returns a tiny CondConv that gives logits, with weights as of a trained one."""
    keras.utils.set_random_seed(0)
    options = {"input_shape": SHAPE, "classifier_activation": None} | options
    return trained(effnet_tf.model_fn(row(), classes, **options))


def trained(model: keras.Model) -> keras.Model:
    """Gives a tiny model statistics, and routings that tell images apart; returns it.

    Over the 16 blocks of a real one the doubled kernels make logits of up to 1e11, of which the
    same weights in float16 keep nothing (2 dB): such a network has `goldens.load_seeded`.
    """
    random = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if isinstance(layer, Routing):
            layer.kernel.assign(random.normal(0, 2, layer.kernel.shape))
            layer.bias.assign(random.normal(0, 1, layer.bias.shape))
        if isinstance(layer, MixedConvolution):
            layer.kernel.assign(2 * layer.kernel)
    return tiny_net.randomise_batch_norm(model)
