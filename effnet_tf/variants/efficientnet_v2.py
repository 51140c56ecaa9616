"""Which rows does the EfficientNetV2 family have: B0 to B3, S, M, L and XL?

Sources:
  paper   Tan & Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021, arXiv
          2104.00298.
  automl  its original code, google/automl efficientnetv2/: `effnetv2_configs.py` (stages,
          coefficients, resolutions, dropout), `effnetv2_model.py`, `hparams.py`.
"""

from effnet_tf.variants.rows import PREPROCESSING, Stage, Variant


def _conv(filters, repeats, strides, input_filters):
    """A fused block that does not expand is one convolution with an activation (automl)."""
    return Stage(filters, repeats, 3, strides, 1, input_filters, kind="conv", se_ratio=0.0)


def _fused(filters, repeats, strides, input_filters):
    return Stage(filters, repeats, 3, strides, 4, input_filters, fused=True, se_ratio=0.0)


def _mbconv(filters, repeats, strides, expand_ratio, input_filters):
    return Stage(filters, repeats, 3, strides, expand_ratio, input_filters)


# automl, effnetv2_configs.py: `v2_base_block` and its siblings; of S also paper, table 4.
B_STAGES = (
    _conv(16, 1, 1, 32),
    _fused(32, 2, 2, 16),
    _fused(48, 2, 2, 32),
    _mbconv(96, 3, 2, 4, 48),
    _mbconv(112, 5, 1, 6, 96),
    _mbconv(192, 8, 2, 6, 112),
)
S_STAGES = (
    _conv(24, 2, 1, 24),
    _fused(48, 4, 2, 24),
    _fused(64, 4, 2, 48),
    _mbconv(128, 6, 2, 4, 64),
    _mbconv(160, 9, 1, 6, 128),
    _mbconv(256, 15, 2, 6, 160),
)
M_STAGES = (
    _conv(24, 3, 1, 24),
    _fused(48, 5, 2, 24),
    _fused(80, 5, 2, 48),
    _mbconv(160, 7, 2, 4, 80),
    _mbconv(176, 14, 1, 6, 160),
    _mbconv(304, 18, 2, 6, 176),
    _mbconv(512, 5, 1, 6, 304),
)
L_STAGES = (
    _conv(32, 4, 1, 32),
    _fused(64, 7, 2, 32),
    _fused(96, 7, 2, 64),
    _mbconv(192, 10, 2, 4, 96),
    _mbconv(224, 19, 1, 6, 192),
    _mbconv(384, 25, 2, 6, 224),
    _mbconv(640, 7, 1, 6, 384),
)
XL_STAGES = (
    _conv(32, 4, 1, 32),
    _fused(64, 8, 2, 32),
    _fused(96, 8, 2, 64),
    _mbconv(192, 16, 2, 4, 96),
    _mbconv(256, 24, 1, 6, 192),
    _mbconv(512, 32, 2, 6, 256),
    _mbconv(640, 8, 1, 6, 512),
)


def _v2(name, width, depth, resolution, dropout, stages, preprocessing, crops):
    """What the whole family shares; the resolution is that of evaluation, training has less."""
    mean, std = PREPROCESSING[preprocessing]
    return Variant(
        f"v2-{name}",
        width,
        depth,
        resolution,
        dropout,
        stages=stages,
        # The stem has the channels that the first block declares (automl, effnetv2_model.py).
        stem_filters=stages[0].input_filters,
        ten_percent_rule=False,  # automl, effnetv2_model.py: round_filters
        batch_norm_momentum=0.9,  # automl, hparams.py
        mean=mean,
        std=std,
        keras_graph="efficientnet_v2",
        crops=crops,
    )


# Name of the constructor in `effnet_tf`: a row. The pixel constants are those of the weights that
# were trained on ImageNet alone; those of ImageNet-21k have others (`weights/published.py`). B0 to
# B3 were trained and evaluated with the pixels and crops of EfficientNet's code (automl,
# preprocessing.py: "effnetv1_").
EFFICIENTNETS_V2 = {
    "EfficientNetV2B0": _v2("b0", 1.0, 1.0, 224, 0.2, B_STAGES, "imagenet", "v1"),
    "EfficientNetV2B1": _v2("b1", 1.0, 1.1, 240, 0.2, B_STAGES, "imagenet", "v1"),
    "EfficientNetV2B2": _v2("b2", 1.1, 1.2, 260, 0.3, B_STAGES, "imagenet", "v1"),
    "EfficientNetV2B3": _v2("b3", 1.2, 1.4, 300, 0.3, B_STAGES, "imagenet", "v1"),
    "EfficientNetV2S": _v2("s", 1.0, 1.0, 384, 0.2, S_STAGES, "v2", "v2"),
    "EfficientNetV2M": _v2("m", 1.0, 1.0, 480, 0.3, M_STAGES, "v2", "v2"),
    "EfficientNetV2L": _v2("l", 1.0, 1.0, 480, 0.4, L_STAGES, "v2", "v2"),
    "EfficientNetV2XL": _v2("xl", 1.0, 1.0, 512, 0.4, XL_STAGES, "v2", "v2"),
}
