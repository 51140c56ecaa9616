"""What may a written file differ by from its model?"""

import dataclasses

from effnet_tf.errors import FAULT, Told


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """What a kind of file may differ by.

    Attributes:
        difference: of any class probability, at most; None if it does not count.
        sqnr: of the logits, in dB, at least; None if it does not count.
        reason: why.
        simulated: whether this is the distance from what the quantised network computes, and
            not from the float one; how far these two are apart is a figure, not a fault.
    """

    difference: float | None
    sqnr: float | None
    reason: str
    simulated: bool = False


TOLERANCE = {
    "SavedModel": Tolerance(1e-4, None, "float32, other kernels: 1e-6 is usual, 1e-4 a bug"),
    "ONNX": Tolerance(1e-4, None, "float32, other kernels: 1e-6 is usual, 1e-4 a bug"),
    "none": Tolerance(1e-4, None, "float32, other kernels: 1e-6 is usual, 1e-4 a bug"),
    "float16": Tolerance(None, 35, "weights of 11 bits give 53 to 59 dB even at random weights"),
    "weights8": Tolerance(1e-4, None, "float32 arithmetic with the same weights", simulated=True),
    "int16x8": Tolerance(None, 15, "rounding at ties alone differs", simulated=True),
    "dynamic": Tolerance(None, 3, "below, the noise is half of what the file says"),
    "int8": Tolerance(None, 15, "rounding at ties alone differs", simulated=True),
}
# Of a quantised file that nothing can simulate any more, as one that is verified later.
BROKEN = Tolerance(None, 3, "below, the noise is half of what the file says")
COARSE_DB = 20.0  # below it, a network of many classes gives other best classes: 1 image of 10


class VerificationError(Told, RuntimeError):
    """A written file does not compute what its model computes; it was removed."""

    exit_code = FAULT
