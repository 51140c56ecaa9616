"""Multiply-adds of random networks, by the stage table and by two that know nothing of it.

Keras' own layers are walked, and TensorFlow's profiler looks at the traced graph. The difference
is 0 for every convolution and dense layer.
"""

import dataclasses
import math
import random

import keras
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import variants
from effnet_tf.variants import Stage

QUICK, ALL = 4, 60


def spec(seed):
    """A network of any stages, coefficients and side, with few channels."""
    draw = random.Random(seed)
    stages, channels = [], 8 * draw.randint(1, 3)
    stem = channels
    for _ in range(draw.randint(1, 4)):
        filters, skip = 8 * draw.randint(1, 5), draw.random() < 0.7
        declared = channels
        if not skip:  # as in EdgeTPU's first stage: a sum would need equal channels
            declared = 8 * draw.randint(1, 4)
        kind = draw.choice(["mbconv", "mbconv", "separable", "conv"])
        expands = kind == "mbconv"
        stages.append(
            Stage(
                filters,
                draw.randint(1, 2),
                draw.choice([3, 5]),
                draw.choice([1, 2]),
                draw.choice([1, 2, 4, 6]) if expands else 1,
                declared,
                fused=expands and draw.random() < 0.3,
                skip=skip,
                kind=kind,
                se_ratio=draw.choice([None, None, 0.25]),
                activation=draw.choice([None, None, "relu"]),
                project_activation=draw.random() < 0.3,
            )
        )
        channels = filters
    return dataclasses.replace(
        variants.VARIANTS["b0"],
        name=f"random-{seed}",
        stages=tuple(stages),
        stem_filters=stem,
        head_filters=8 * draw.randint(1, 8),
        width_coefficient=draw.uniform(0.5, 1.6),
        depth_coefficient=draw.uniform(0.3, 1.7),
        resolution=draw.randint(32, 99),
        num_classes=draw.randint(2, 12),
        se_ratio=draw.choice([0, 0.25, 0.5]),
        activation=draw.choice(["swish", "relu6", "relu"]),
        scale_stem_and_head=draw.random() < 0.7,
    )


def walked(model):
    """Multiply-adds by the shapes of Keras' own layers."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            pixels = math.prod(layer.output.shape[1:3])
            total += pixels * math.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += math.prod(layer.kernel.shape)
    return total


def profiled(model):
    """Multiply-adds by TensorFlow's profiler, which counts each as two operations."""
    traced = tf.function(lambda images: model(images, training=False), autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]))).graph
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    found = tf.compat.v1.profiler.profile(graph, options=options, cmd="op")
    return sum(
        child.float_ops // 2
        for child in _below(found)
        if child.name in ("Conv2D", "DepthwiseConv2dNative", "MatMul")
    )


def _below(node):
    for child in node.children:
        yield child
        yield from _below(child)


@pytest.mark.parametrize(
    "seed", [pytest.param(s, marks=[pytest.mark.slow] * (s >= QUICK)) for s in range(ALL)]
)
def test_all_three_count_the_same(seed):
    row = spec(seed)
    side = row.resolution
    model = effnet_tf.model_fn(row, input_shape=(side, side, 3), flat=True)
    counted = effnet_tf.cost(row)
    assert counted.multiply_adds == walked(model) == profiled(model)
    trained = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert counted.trainable_params == trained
