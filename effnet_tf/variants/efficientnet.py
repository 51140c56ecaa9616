"""Which rows does the EfficientNet family have: B0 to B8, L2, Lite and EdgeTPU?

Sources: see `rows.py`.
"""

from effnet_tf.variants.rows import PREPROCESSING, Stage, Variant

# builder, edgetpu/. The first row declares 24 input channels although the stem
# gives 32; its expansion counts from the declared 24, so the row says 24.
EDGETPU_STAGES = (
    Stage(24, 1, 3, 1, 4, 24, fused=True, skip=False),
    Stage(32, 2, 3, 2, 8, 24, fused=True),
    Stage(48, 4, 3, 2, 8, 32, fused=True),
    Stage(96, 5, 5, 2, 8, 48),
    Stage(144, 4, 5, 1, 8, 96),
    Stage(192, 2, 5, 2, 8, 144),
)

_MEAN, _STD = PREPROCESSING["lite"]  # EdgeTPU's, too


def _lite(name, width, depth, resolution, dropout):
    """builder, lite/: no squeeze-and-excite, relu6, fixed stem and head."""
    return Variant(
        name,
        width,
        depth,
        resolution,
        dropout,
        se_ratio=0.0,
        activation="relu6",
        scale_stem_and_head=False,
        mean=_MEAN,
        std=_STD,
    )


def _edgetpu(name, width, depth, resolution, dropout):
    """builder, edgetpu/: 1001 classes, of which class 0 is the background."""
    return Variant(
        name,
        width,
        depth,
        resolution,
        dropout,
        stages=EDGETPU_STAGES,
        se_ratio=0.0,
        activation="relu",
        mean=_MEAN,
        std=_STD,
        num_classes=1001,
    )


# Name of the constructor in `effnet_tf`: a row.
# The row is name, width, depth, resolution, dropout: builder, `efficientnet_params` and its
# siblings. The coefficients are hand-set; see CompoundScaling.
EFFICIENTNETS = {
    "EfficientNetB0": Variant("b0", 1.0, 1.0, 224, 0.2),
    "EfficientNetB1": Variant("b1", 1.0, 1.1, 240, 0.2),
    "EfficientNetB2": Variant("b2", 1.1, 1.2, 260, 0.3),
    "EfficientNetB3": Variant("b3", 1.2, 1.4, 300, 0.3),
    "EfficientNetB4": Variant("b4", 1.4, 1.8, 380, 0.4),
    "EfficientNetB5": Variant("b5", 1.6, 2.2, 456, 0.4),
    "EfficientNetB6": Variant("b6", 1.8, 2.6, 528, 0.5),
    "EfficientNetB7": Variant("b7", 2.0, 3.1, 600, 0.5),
    "EfficientNetB8": Variant("b8", 2.2, 3.6, 672, 0.5),
    "EfficientNetL2": Variant("l2", 4.3, 5.3, 800, 0.5),
    "EfficientNetLite0": _lite("lite0", 1.0, 1.0, 224, 0.2),
    "EfficientNetLite1": _lite("lite1", 1.0, 1.1, 240, 0.2),
    "EfficientNetLite2": _lite("lite2", 1.1, 1.2, 260, 0.3),
    "EfficientNetLite3": _lite("lite3", 1.2, 1.4, 280, 0.3),
    "EfficientNetLite4": _lite("lite4", 1.4, 1.8, 300, 0.3),
    "EfficientNetEdgeTPUSmall": _edgetpu("edgetpu-s", 1.0, 1.0, 224, 0.2),
    "EfficientNetEdgeTPUMedium": _edgetpu("edgetpu-m", 1.0, 1.1, 240, 0.2),
    "EfficientNetEdgeTPULarge": _edgetpu("edgetpu-l", 1.2, 1.4, 300, 0.3),
}
