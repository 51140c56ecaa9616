"""What kind of TFLite file is wanted, and do the wishes go together?"""

import dataclasses
import math

from effnet_tf.errors import InputError

QUANTIZE = ("none", "float16", "weights8", "int8", "int16x8", "dynamic")
IO = ("float", "int8", "uint8")
CALIBRATED = ("int8", "int16x8")  # cannot do without images
ROUNDED = ("weights8", *CALIBRATED)  # have weights of 8 bits that we round
EFFORTS = ("quick", "normal", "thorough")
TARGET_SQNR = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What kind of TFLite file is wanted.

    Attributes:
        quantize: None: what suits the network, see choice.py; it is printed. "none":
            float32. "float16": weights of 16 bits, computed in float.
            "weights8": weights of 8 bits per output channel, computed in float. "int8":
            all in integers. "int16x8": activations of 16 bits, weights of 8; slow on CPUs.
            "dynamic": TensorFlow's dynamic range; slow, and bad for B0 and B1.
        io: type of the file's input, and of its output if all is in integers: "float",
            "uint8" (bytes of an image as they are) or "int8" (those minus 128).
        batch: images per call, or "dynamic".
        equalize: whether to equalise the ranges of channels before int8 and int16x8.
        effort: how long making 8-bit numbers may take. "quick", seconds: each weight is
            rounded for itself, and biases of int8 and int16x8 take up the mean error.
            "normal", a minute or two: weights are rounded so that their errors cancel on
            calibration images, or on drawn ones where there are none, and biases take up what
            is left. "thorough", some minutes more, of int8: ranges of activations are searched
            for, too. None: normal; it is printed.
        keep_float: names of blocks that stay float in an int8 file, such as ("block7a",
            "top"), or "auto": few that reach `target_sqnr`.
        target_sqnr: of the logits, in dB, for "auto".
        min_sqnr: of the logits against the float network's, in dB; below it nothing is
            written. None: whatever a file keeps that computes what it should.
        min_agreement: the same for the share of images whose best class is the float
            network's, in [0, 1].

    Raises:
        InputError: an unknown value, or values that do not go together.
    """

    quantize: str | None = None
    io: str = "float"
    batch: int | str = 1
    equalize: bool = True
    effort: str | None = None
    keep_float: tuple[str, ...] | str = ()
    target_sqnr: float = TARGET_SQNR
    min_sqnr: float | None = None
    min_agreement: float | None = None

    def __post_init__(self):
        if self.quantize is not None:
            _check_known("quantize", self.quantize, QUANTIZE)
        _check_known("io", self.io, IO)
        if self.effort is not None:
            _check_known("effort", self.effort, EFFORTS)
        if self.batch != "dynamic" and not (isinstance(self.batch, int) and self.batch > 0):
            raise InputError(
                f"batch is {self.batch!r}; it must be a number of images, at least 1, or 'dynamic'."
            )
        if self.quantize is not None:
            self._check_kind()
        if isinstance(self.keep_float, str) and self.keep_float not in ("", "auto"):
            raise InputError(
                f"keep_float is '{self.keep_float}'; it must be 'auto', or a tuple of "
                "names of blocks."
            )
        if self.min_sqnr is not None and not math.isfinite(self.min_sqnr):
            raise InputError(f"min_sqnr is {self.min_sqnr}; it must be a number of dB.")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 1:
            raise InputError(
                f"min_agreement is {self.min_agreement}; it must be a share in [0, 1], such as "
                "0.9 for 90 % of the images."
            )

    def _check_kind(self):
        """Refuses options that do not go with `quantize`."""
        if self.io == "int8" and self.quantize != "int8":
            raise InputError(
                f"io 'int8' goes with quantize 'int8'; a file of '{self.quantize}' "
                "takes 'float' or 'uint8'."
            )
        if self.io != "float" and self.quantize == "int16x8":
            raise InputError("quantize 'int16x8' takes io 'float' only.")
        if self.effort is not None and self.quantize not in ROUNDED:
            raise InputError(
                f"effort is for quantize {', '.join(ROUNDED)}; a file of '{self.quantize}' has "
                "no 8-bit numbers to choose."
            )
        if self.effort == "thorough" and self.quantize != "int8":
            raise InputError(
                "effort 'thorough' searches for ranges of quantize 'int8'; a file of "
                f"'{self.quantize}' has none: take 'normal'."
            )
        if self.keep_float and self.quantize != "int8":
            raise InputError("keep_float is for quantize 'int8'.")
        if self.batch == "dynamic" and self.quantize == "int16x8":
            raise InputError("quantize 'int16x8' needs a fixed batch: give a number.")

    @property
    def rounds(self) -> bool:
        """Whether 8-bit weights are rounded so that their errors cancel."""
        return self.quantize in ROUNDED and self.effort != "quick"

    @property
    def narrows(self) -> bool:
        """Whether ranges of activations are searched for."""
        return self.quantize == "int8" and self.effort == "thorough"

    @property
    def static_batch(self) -> int | None:
        """The batch as a tensor's shape wants it."""
        if isinstance(self.batch, int):
            return self.batch
        return None


def _check_known(field, value, known):
    if value not in known:
        raise InputError(f"{field} is '{value}'; it must be one of {', '.join(known)}.")
