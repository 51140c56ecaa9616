"""Which rows do other networks have that the paper scales, MobileNets and ResNet-50?

Sources, of Keras 3.15: keras/src/applications/, whose weights these rows compute with; each row
names its file there and the paper of the network. Widths that scaling gives are multiples of 8 by
the rule of `round_filters`; MobileNetV1 there has other ones at alpha below 1, and all of them
scale the head only above.
"""

from effnet_tf.variants.rows import PREPROCESSING, Stage, Variant

_MEAN, _STD = PREPROCESSING["inception"]  # imagenet_utils.py: x / 127.5 - 1

# mobilenet.py; Howard et al., arXiv 1704.04861, table 1.
MOBILENET_V1_STAGES = tuple(
    Stage(
        filters,
        repeats,
        3,
        strides,
        1,
        before,
        skip=False,
        kind="separable",
        project_activation=True,
    )
    for before, filters, repeats, strides in (
        (32, 64, 1, 1),
        (64, 128, 2, 2),
        (128, 256, 2, 2),
        (256, 512, 6, 2),
        (512, 1024, 2, 2),
    )
)
# mobilenet_v2.py; Sandler et al., arXiv 1801.04381, table 2.
MOBILENET_V2_STAGES = (
    Stage(16, 1, 3, 1, 1, 32),
    Stage(24, 2, 3, 2, 6, 16),
    Stage(32, 3, 3, 2, 6, 24),
    Stage(64, 4, 3, 2, 6, 32),
    Stage(96, 3, 3, 1, 6, 64),
    Stage(160, 3, 3, 2, 6, 96),
    Stage(320, 1, 3, 1, 6, 160),
)
# mobilenet_v3.py; Howard et al., arXiv 1905.02244, tables 1 and 2. A row of theirs is one block;
# equal ones that follow each other are one stage here, which is what depth scales.
MOBILENET_V3_LARGE_STAGES = (
    Stage(16, 1, 3, 1, 1, 16, se_ratio=0.0, activation="relu"),
    Stage(24, 1, 3, 2, 4, 16, se_ratio=0.0, activation="relu"),
    Stage(24, 1, 3, 1, 3, 24, se_ratio=0.0, activation="relu"),
    Stage(40, 3, 5, 2, 3, 24, activation="relu"),
    Stage(80, 1, 3, 2, 6, 40, se_ratio=0.0),
    Stage(80, 1, 3, 1, 2.5, 80, se_ratio=0.0),
    Stage(80, 2, 3, 1, 2.3, 80, se_ratio=0.0),
    Stage(112, 2, 3, 1, 6, 80),
    Stage(160, 3, 5, 2, 6, 112),
)
MOBILENET_V3_SMALL_STAGES = (
    Stage(16, 1, 3, 2, 1, 16, activation="relu"),
    Stage(24, 1, 3, 2, 72 / 16, 16, se_ratio=0.0, activation="relu"),
    Stage(24, 1, 3, 1, 88 / 24, 24, se_ratio=0.0, activation="relu"),
    Stage(40, 1, 5, 2, 4, 24),
    Stage(40, 2, 5, 1, 6, 40),
    Stage(48, 2, 5, 1, 3, 40),
    Stage(96, 3, 5, 2, 6, 48),
)


def _resnet50(kind):
    return (
        Stage(256, 3, 3, 1, 0.25, 64, kind=kind),
        Stage(512, 4, 3, 2, 0.25, 256, kind=kind),
        Stage(1024, 6, 3, 2, 0.25, 512, kind=kind),
        Stage(2048, 3, 3, 2, 0.25, 1024, kind=kind),
    )


# resnet.py; He et al., arXiv 1512.03385, table 1.
RESNET50_STAGES = _resnet50("bottleneck")
# torchvision, models/resnet.py, "ResNet V1.5": 4.09 instead of 3.86 billion multiply-adds.
RESNET50_B_STAGES = _resnet50("bottleneck_b")


def _mobilenet_v3(name, stages, head, top):
    return Variant(
        name,
        1.0,
        1.0,
        224,
        0.2,
        stages=stages,
        activation="hard_swish",
        stem_filters=16,
        head_filters=head,
        mean=_MEAN,
        std=_STD,
        batch_norm_momentum=0.999,
        se_from_expanded=True,
        se_activation="relu",
        se_gate="hard_sigmoid",
        top_filters=top,
    )


# Name of the constructor in `effnet_tf`: a row.
BASELINES = {
    "MobileNet": Variant(
        "mobilenet_v1",
        1.0,
        1.0,
        224,
        0.001,
        stages=MOBILENET_V1_STAGES,
        se_ratio=0.0,
        activation="relu6",
        head_filters=0,
        mean=_MEAN,
        std=_STD,
        padding="even",
    ),
    "MobileNetV2": Variant(
        "mobilenet_v2",
        1.0,
        1.0,
        224,
        0.0,
        stages=MOBILENET_V2_STAGES,
        se_ratio=0.0,
        activation="relu6",
        mean=_MEAN,
        std=_STD,
        batch_norm_momentum=0.999,
    ),
    "MobileNetV3Large": _mobilenet_v3("mobilenet_v3_large", MOBILENET_V3_LARGE_STAGES, 960, 1280),
    "MobileNetV3Small": _mobilenet_v3("mobilenet_v3_small", MOBILENET_V3_SMALL_STAGES, 576, 1024),
    "ResNet50": Variant(
        "resnet50",
        1.0,
        1.0,
        224,
        0.0,
        stages=RESNET50_STAGES,
        se_ratio=0.0,
        activation="relu",
        stem_filters=64,
        head_filters=0,
        # imagenet_utils.py, "caffe": means alone. Its pixels are BGR, ours RGB: the stem's kernel
        # is turned round when weights are read (`weights/keras_application_names.py`).
        mean=(123.68, 116.779, 103.939),
        std=(1.0, 1.0, 1.0),
        batch_norm_epsilon=1.001e-5,
        padding="symmetric",
        conv_bias=True,
        stem_kernel_size=7,
        stem_pool_size=3,
    ),
}
