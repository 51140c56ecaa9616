"""Who trained the weights, and what do the rows of their networks say otherwise than ours?

The rows of `EFFICIENTNETS` are those of the original code, whose weights `keras.applications`,
timm's `tf_efficientnet_*`, EfficientNet-PyTorch and Hugging Face's transformers carry on: family
"tf". So are those of `BASELINES`, which are `keras.applications`' own. Others have networks of the
same shapes that compute something else.

Sources, of the versions that were measured:
  timm         1.0.31, timm/models/efficientnet.py: `padding=""` is symmetric, the epsilon is
               PyTorch's; mean and deviation are those of its default_cfgs. Its weights `*.ra4_*`
               have others (0.5), as their config.json says; MobileNetV1 has no weights but these.
  torchvision  0.28, torchvision/models/efficientnet.py: `norm_layer` of B5 to B7, `crop_size`;
               mobilenetv3.py: `norm_layer`.
  keras_hub    0.32, models/efficientnet/ and utils/timm/convert_efficientnet.py: B0 to B5 and Lite0
               of timm. Its EdgeTPU networks pad their depthwise convolutions as TensorFlow does,
               unlike timm's, from whose weights they are made: they are not read.

Batch norm's momentum stays the rows' own, although PyTorch's default is 0.1 (here: 0.9): it is
part of a recipe, and no trained network computes with it.
"""

import dataclasses
from typing import Any

from effnet_tf.errors import InputError
from effnet_tf.variants.baselines import RESNET50_B_STAGES
from effnet_tf.variants.convolutions import BATCH_NORM_EPSILON
from effnet_tf.variants.rows import IMAGENET_MEAN, IMAGENET_STD, PREPROCESSING, Variant
from effnet_tf.variants.table import baseline_of, find_variant

_PYTORCH = {
    "padding": "symmetric",
    "batch_norm_epsilon": 1e-5,  # torch.nn.BatchNorm2d
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
}
# Family: the fields that its rows have, whatever ours say; of "tf", those of EfficientNets.
FAMILIES: dict[str, dict[str, Any]] = {
    "tf": {"padding": "same", "batch_norm_epsilon": BATCH_NORM_EPSILON},
    "timm": _PYTORCH,
    "torchvision": _PYTORCH,
    "keras_hub": _PYTORCH,
}
_NO_BACKGROUND = {"num_classes": 1000}
# timm, resnet.py, and torchvision, models/resnet.py.
_RESNET = {"stages": RESNET50_B_STAGES, "conv_bias": False}
# (family, variant): what a single row has; of `BASELINES`, all that are scaled from it, too.
_ROWS: dict[tuple[str, str], dict[str, Any]] = {
    ("timm", "edgetpu-s"): _NO_BACKGROUND,
    ("timm", "edgetpu-m"): _NO_BACKGROUND,
    ("timm", "edgetpu-l"): _NO_BACKGROUND,
    ("timm", "mobilenet_v1"): dict(zip(("mean", "std"), PREPROCESSING["inception"])),
    ("timm", "resnet50"): _RESNET,
    ("torchvision", "resnet50"): _RESNET,
    ("torchvision", "b2"): {"resolution": 288},
    ("torchvision", "b5"): {"batch_norm_epsilon": 1e-3},
    ("torchvision", "b6"): {"batch_norm_epsilon": 1e-3},
    ("torchvision", "b7"): {"batch_norm_epsilon": 1e-3},
    ("torchvision", "mobilenet_v3_large"): {"batch_norm_epsilon": 1e-3},
    ("torchvision", "mobilenet_v3_small"): {"batch_norm_epsilon": 1e-3},
}
_NO_TF = ("mobilenet_v1", "mobilenet_v2")  # timm has no `tf_` network of these


def in_family(variant: str | Variant, family: str | None) -> Variant:
    """Returns the row that a variant has in a family.

    Args:
        variant: a name of `VARIANTS` or a `Variant`.
        family: a name of `FAMILIES`; None for the row as it is.

    Raises:
        InputError: there is no such variant, or no such family.

    Example:
        >>> in_family("b5", "torchvision").padding
        'symmetric'
    """
    row = find_variant(variant)
    if family is None:
        return row
    check_family(family)
    name, baseline = row.name, baseline_of(row)
    fields = FAMILIES[family]
    if baseline is not None:
        name = baseline.name
        if family == "tf":
            fields = {each: getattr(baseline, each) for each in (*fields, *_RESNET)}
    fields = fields | _ROWS.get((family, name), {})
    if family == "tf" and row.padding == "even":  # TensorFlow's, too
        fields["padding"] = "even"
    return dataclasses.replace(row, **fields)


def of_timm(variant: str | Variant | None) -> tuple[str, ...]:
    """Returns the families that timm has a variant in; None for a variant that nobody knows.

    Raises:
        InputError: there is no such variant.

    Example:
        >>> of_timm("b0"), of_timm("mobilenet_v2")
        (('tf', 'timm'), ('timm',))
    """
    if variant is None:
        return ("tf", "timm")
    row = find_variant(variant)
    if any(stage.experts for stage in row.stages):
        return ("tf",)  # it converted CondConv's weights, and trained none
    baseline = baseline_of(row)
    if baseline is not None and baseline.name in _NO_TF:
        return ("timm",)
    return ("tf", "timm")


def check_family(family: str) -> None:
    """Raises InputError unless this is a name of `FAMILIES`."""
    if family not in FAMILIES:
        raise InputError(
            f"family is {family!r}; it must be one of {', '.join(map(repr, FAMILIES))}."
        )
