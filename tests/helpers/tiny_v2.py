"""Tiny EfficientNetV2s, ours and keras.applications', for tests of every kind."""

import dataclasses
from collections.abc import Sequence

import keras
from keras.src.applications import efficientnet_v2

from effnet_tf import variants
from tests.helpers import tiny_net


def row(name: str = "v2-b0") -> variants.Variant:
    """Returns a block of every kind: one convolution, fused, and with squeeze-and-excite."""
    full = variants.VARIANTS[name]
    conv, fused, _, inverted = full.stages[:4]
    stages = (
        dataclasses.replace(conv, filters=8, input_filters=8, repeats=2),
        dataclasses.replace(fused, filters=16, input_filters=8, repeats=2),
        dataclasses.replace(inverted, filters=16, input_filters=16, repeats=2),
    )
    return dataclasses.replace(full, stages=stages, stem_filters=8, head_filters=16, resolution=32)


def blocks_args(row: variants.Variant, stages: Sequence[variants.Stage]) -> list[dict]:
    """Returns stages of a row in the words of keras.applications' EfficientNetV2."""
    return [
        dict(
            kernel_size=stage.kernel_size,
            num_repeat=stage.repeats,
            input_filters=stage.input_filters,
            output_filters=stage.filters,
            expand_ratio=stage.expand_ratio,
            se_ratio=row.se_ratio if stage.se_ratio is None else stage.se_ratio,
            strides=stage.strides,
            conv_type=int(stage.fused or stage.kind == "conv"),
        )
        for stage in stages
    ]


def theirs(name: str = "v2-b0", shape: tuple = (48, 33, 3), **options) -> keras.Model:
    """Returns the same of keras.applications, with statistics as of a trained one."""
    keras.backend.clear_session(free_memory=False)
    arguments = blocks_args(row(name), row(name).stages)
    width = 16 / 1280  # of their head, which is 1280 before
    for block in arguments:
        for side in ("input_filters", "output_filters"):
            block[side] /= width
    model = efficientnet_v2.EfficientNetV2(
        width,
        1.0,
        32,
        blocks_args=arguments,
        weights=None,
        classes=3,
        input_shape=shape,
        name=f"efficientnet{name}",
        **options,
    )
    return tiny_net.randomise_batch_norm(model)
