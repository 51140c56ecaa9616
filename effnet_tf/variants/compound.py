"""How does a network grow: the paper's compound scaling for any real phi?"""

import dataclasses
import math

from effnet_tf.errors import InputError
from effnet_tf.variants.network import check_resolution, resolve
from effnet_tf.variants.rows import Variant
from effnet_tf.variants.table import VARIANTS, find_variant

MAX_SCALE = 100  # a phi that asks for more would take hours to expand, and no machine has it


@dataclasses.dataclass(frozen=True)
class CompoundScaling:
    """The paper's compound scaling (section 3.3, equation 3) for any real phi.

    depth = alpha**phi, width = beta**phi, resolution = gamma**phi, each >= 1 at
    phi = 1. The defaults are the paper's grid search at phi = 1 around B0.

    The released B1-B7 are hand-set rows of `VARIANTS`, and no phi reproduces them
    (B5 has depth 2.2; with its width 1.6, phi would be 4.9 and the depth 2.5). Ask
    for them by name; come here for networks between and beyond them.

    Attributes:
        alpha: base of the depth coefficient, >= 1.
        beta: base of the width coefficient, >= 1.
        gamma: base of the resolution, >= 1.

    Raises:
        InputError: alpha, beta or gamma is less than 1.

    Example:
        >>> CompoundScaling().variant(-1).resolution
        195
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self):
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 1):
                raise InputError(
                    f"{name} is {value}; compound scaling needs {name} >= 1 (paper, equation 3)."
                )

    @property
    def cost_per_phi(self) -> float:
        """alpha * beta**2 * gamma**2: the factor on multiply-adds when phi grows by 1.

        The paper asks for about 2; its own constants give 1.92.
        """
        return self.alpha * self.beta**2 * self.gamma**2

    def variant(self, phi: float, base: str | Variant = "b0") -> Variant:
        """Returns `base` scaled by phi.

        Args:
            phi: any real number; negative ones shrink the network.
            base: a name of `VARIANTS` or a `Variant` to scale from.

        Returns:
            A `Variant` named like "b0-phi-1.5"; its resolution is rounded to a pixel.

        Raises:
            InputError: phi is not finite, leaves a stage without filters, gives a resolution
                below the product of the strides (B0: 32 pixels), or a network over 100 times as
                deep or wide as B0.
        """
        row = find_variant(base)
        try:
            depth = row.depth_coefficient * self.alpha**phi
            width = row.width_coefficient * self.beta**phi
            resolution = round(row.resolution * self.gamma**phi)
        except (OverflowError, ValueError):  # ValueError: the round of a nan
            raise InputError(
                f"phi is {phi}; it must be a finite number, and small enough for the network's "
                "size to be one, too."
            ) from None
        if max(depth, width, resolution / VARIANTS["b0"].resolution) > MAX_SCALE:
            raise InputError(
                f"phi = {phi:g} asks for depth {depth:.3g}, width {width:.3g} and {resolution:,} "
                f"pixels. More than {MAX_SCALE} times B0 (L2: 5.3 times) must be a mistake: "
                "use a smaller phi."
            )
        scaled = dataclasses.replace(
            row,
            name=f"{row.name}-phi{phi:g}",
            width_coefficient=width,
            depth_coefficient=depth,
            resolution=resolution,
        )
        network = resolve(scaled)  # refuses a width that leaves a stage without filters
        what = f"'{row.name}' at phi = {phi:g}"
        check_resolution(scaled.resolution, what, network.least_side)
        return scaled
