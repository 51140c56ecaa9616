"""Which rows does CondConv have, EfficientNet-B0 whose last kernels are mixed for each image?

Source: Yang et al., "CondConv: Conditionally Parameterized Convolutions for Efficient Inference",
NeurIPS 2019, arXiv 1904.04971, and its code, tensorflow/tpu models/official/efficientnet/condconv:
`efficientnet_condconv_builder.py` (coefficients, dropout, stages, pixels).
"""

import dataclasses

from effnet_tf.variants.rows import B_STAGES, PREPROCESSING, Variant

_MEAN, _STD = PREPROCESSING["lite"]
_MIXED = 3  # stages, the last ones


def _condconv(name, depth, experts):
    """One row; the resolution stays that of B0, also of the deeper one."""
    mixed = (dataclasses.replace(stage, experts=experts) for stage in B_STAGES[-_MIXED:])
    stages = (*B_STAGES[:-_MIXED], *mixed)
    return Variant(f"condconv-{name}", 1.0, depth, 224, 0.25, stages=stages, mean=_MEAN, std=_STD)


# Name of the constructor in `effnet_tf`: a row.
CONDCONVS = {
    "EfficientNetCondConvB0_4E": _condconv("b0-4e", 1.0, 4),
    "EfficientNetCondConvB0_8E": _condconv("b0-8e", 1.0, 8),
    "EfficientNetCondConvB0_8EDepth": _condconv("b0-8e-depth", 1.1, 8),
}
