"""Which TPUs can a step be compiled for, and what does one replica get of each?"""

import dataclasses
import math
import re

from effnet_tf.errors import InputError

REPLICAS = 8  # of every step that is looked at


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of TPU: what one replica of a TPUStrategy gets of it.

    Attributes:
        hbm_gib: device memory of one replica. The compiler keeps some for itself.
        replicas: per chip.
        example: a topology with 8 replicas.
        options: for jax's `get_topology_desc`.
    """

    hbm_gib: int
    replicas: int
    example: str
    options: dict = dataclasses.field(default_factory=dict)


# Memory: docs.cloud.google.com/tpu/docs/<name>, "HBM capacity", by the number of replicas.
# The two cores of a v4 or v5p are one replica ("megacore"), of the others one each; libtpu
# takes that for granted with v5p only.
CHIPS = {
    "v2": Chip(8, 2, "v2:2x2"),
    "v3": Chip(16, 2, "v3:2x2"),
    "v4": Chip(32, 1, "v4:2x2x2", {"chip_config_name": "megacore"}),
    "v5e": Chip(16, 1, "v5e:2x4"),
    "v5p": Chip(95, 1, "v5p:2x2x2"),
    "v6e": Chip(32, 1, "v6e:2x4"),
}


def chip_of(topology: str) -> Chip:
    """Returns the `Chip` of a topology such as "v5e:2x4".

    Raises:
        InputError: another form, an unknown chip, or other than 8 replicas.
    """
    name, _, shape = topology.partition(":")
    if not re.fullmatch(r"\d+(x\d+)+", shape) or name not in CHIPS:
        raise InputError(
            f"There is no TPU topology '{topology}'; with 8 replicas there are "
            f"{', '.join(chip.example for chip in CHIPS.values())}."
        )
    replicas = CHIPS[name].replicas * math.prod(map(int, shape.split("x")))
    if replicas != REPLICAS:
        raise InputError(
            f"The topology '{topology}' has {replicas} replicas, and this check is "
            f"for {REPLICAS}, as in '{CHIPS[name].example}'."
        )
    return CHIPS[name]
