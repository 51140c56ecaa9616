"""Which variants are there, and which one does a name mean?"""

from effnet_tf.columns import Shown
from effnet_tf.errors import InputError, nearest
from effnet_tf.variants.baselines import BASELINES, RESNET50_B_STAGES, RESNET50_STAGES
from effnet_tf.variants.condconv import CONDCONVS
from effnet_tf.variants.efficientnet import EFFICIENTNETS
from effnet_tf.variants.efficientnet_v2 import EFFICIENTNETS_V2
from effnet_tf.variants.rows import Variant
from effnet_tf.variants.variant_files import SUFFIX, from_json, read_variant

_ROWS = EFFICIENTNETS | EFFICIENTNETS_V2 | CONDCONVS | BASELINES
VARIANTS = Shown({variant.name: variant for variant in _ROWS.values()})  # by showing.py
# Constructor, such as "EfficientNetB0": variant; `effnet_tf` has a function of each name.
CONSTRUCTORS = {name: variant.name for name, variant in _ROWS.items()}


def find_variant(variant: str | Variant) -> Variant:
    """Returns a `Variant` for a name of `VARIANTS` (any case), a file of one, or a `Variant`.

    Args:
        variant: a row; a name; a path that ends with .json, see `save_variant`; or the content of
            such a file, as recipes keep it.

    Raises:
        InputError: the name is unknown; the message lists the nearest names. Or the file is not
            that of a variant.
    """
    if isinstance(variant, Variant):
        return variant
    found = VARIANTS.get(str(variant).lower())
    if found is not None:
        return found
    text = str(variant)
    if text.startswith("{"):
        return from_json(text)
    if text.endswith(SUFFIX):
        return read_variant(text)
    raise InputError(
        f"There is no variant '{variant}'. {nearest(variant, VARIANTS)} A file of one ends with "
        f"{SUFFIX}."
    )


def baseline_of(row: Variant) -> Variant | None:
    """Returns the row of `BASELINES` that another one was scaled from; None for EfficientNets.

    However it is scaled, it has the stages of its baseline, or those of another family.
    """
    stages = row.stages
    if stages == RESNET50_B_STAGES:
        stages = RESNET50_STAGES
    for baseline in BASELINES.values():
        if baseline.stages == stages:
            return baseline
    return None


def name_of_model(name: str) -> str:
    """Returns the name of the variant in that of a model, see `model_name`; else the name itself.

    Example:
        >>> name_of_model("efficientnetv2-s"), name_of_model("efficientnet-b0")
        ('v2-s', 'b0')
    """
    if name.startswith("efficientnetv2-"):
        return name.removeprefix("efficientnet")
    return name.removeprefix("efficientnet-")


def model_name(row: Variant) -> str:
    """Returns what a model of a variant is called.

    "efficientnet-b0"; "efficientnetv2-s" of v2-s, as Google and keras.applications call it;
    "mobilenet_v2".
    """
    if baseline_of(row) is not None:
        return row.name
    if row.name.startswith("v2-"):
        return f"efficientnet{row.name}"
    return f"efficientnet-{row.name}"
