"""What could be written instead of a file that agrees too little with its model?"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Offer:
    """Another file of the same network, made and measured.

    Attributes:
        options: of the program `tflite`, such as "--quantize int16x8".
        agreement: share of the images with the float network's best class; None: it cannot be made.
        sqnr_db: of the logits against the float network's, in dB; None if they are equal.
        size_bytes: of the file, without metadata.
        latency_ratio: time per image over that of the float32 file, one thread of this machine.
        fault: why it cannot be made; or None.
    """

    options: str
    agreement: float | None = None
    sqnr_db: float | None = None
    size_bytes: int | None = None
    latency_ratio: float | None = None
    fault: str | None = None

    def cells(self) -> list[str]:
        """Returns it as cells of a table: options, agreement, SQNR, size, latency."""
        if self.agreement is None or self.size_bytes is None or self.latency_ratio is None:
            return [f"{self.options} cannot be: {self.fault}", "", "", "", ""]
        decibels = "exact"
        if self.sqnr_db is not None:
            decibels = f"{self.sqnr_db:.1f} dB"
        return [
            self.options,
            f"{self.agreement:.1%}",
            decibels,
            f"{self.size_bytes / 1e6:.2f} MB",
            f"{self.latency_ratio:.2f}",
        ]
