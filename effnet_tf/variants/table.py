"""Which variants are there, and which one does a name mean?"""

from effnet_tf.errors import InputError, nearest
from effnet_tf.variants.efficientnet import EFFICIENTNETS
from effnet_tf.variants.rows import Variant

VARIANTS = {variant.name: variant for variant in EFFICIENTNETS.values()}
# Constructor, such as "EfficientNetB0": variant; `effnet_tf` has a function of each name.
CONSTRUCTORS = {name: variant.name for name, variant in EFFICIENTNETS.items()}


def find_variant(variant: str | Variant) -> Variant:
    """Returns a `Variant` for a name of `VARIANTS` (any case) or a `Variant`.

    Raises:
        InputError: the name is unknown; the message lists the nearest names.
    """
    if isinstance(variant, Variant):
        return variant
    found = VARIANTS.get(str(variant).lower())
    if found is None:
        raise InputError(f"There is no variant '{variant}'. {nearest(variant, VARIANTS)}")
    return found
