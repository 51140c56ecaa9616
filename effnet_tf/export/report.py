"""What is said of a written file, and what may it differ by from its model?"""

import dataclasses
from collections.abc import Iterator

from effnet_tf.errors import FAULT, Told

LAYERS_SHOWN = 10
FLOAT_DB = 140.0  # two float32 computations differ by less noise than this


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


@dataclasses.dataclass(frozen=True)
class Report:
    """How a written file compares with the Keras model; `print(report)` is a table.

    Attributes:
        kind: "SavedModel", "ONNX", or what `quantize` of a TFLite file was.
        size_bytes: of the file, or of all files of the SavedModel.
        images: how many were compared.
        largest_difference: of any class probability (logit, without a softmax), absolute.
        sqnr_db: power of the logits over that of their differences, each image's mean
            taken off, in dB; None if they are equal.
        top1_agreement: share of the images with the same best class, in [0, 1].
        top5_agreement: mean share of the model's five best classes among the file's.
        accuracy: share of images the file classifies right, None without labels.
        model_accuracy: the Keras model's.
        operators: {name: count} of a TFLite file.
        delegated: how many operators XNNPACK, TensorFlow's delegate for CPUs, takes.
        delegated_pieces: in how many pieces.
        latency_ratio: time per image over that of the float32 file, one thread,
            alternating in one process; None for files in float32.
        size_ratio: size over that of the float32 TFLite file.
        kept_float: names of the operators that `keep_float` left in float.
        price: what that costs in size and delegation, a sentence; or None.
        layers: {operator: SQNR of its result in dB} of an int8 file, against float32.
        layers_before: the same with weights as they were; empty if nothing prepared them.
        tolerance: the sentence of what passes.
        names_agreement: where an image may have several names, share of the images that get the
            same ones from the model and from the file, at the thresholds; else None.
        simulated_db: SQNR of the logits against what the quantised network computes in exact
            arithmetic, in dB; None if they are equal, or nothing simulated it.
    """

    kind: str
    size_bytes: int
    images: int
    largest_difference: float
    sqnr_db: float | None
    top1_agreement: float
    top5_agreement: float
    accuracy: float | None
    model_accuracy: float | None
    operators: dict
    delegated: int | None
    delegated_pieces: int | None
    latency_ratio: float | None
    size_ratio: float | None
    kept_float: list
    price: str | None
    layers: dict
    layers_before: dict
    tolerance: str
    names_agreement: float | None = None
    simulated_db: float | None = None

    def __str__(self):
        return "\n".join(f"  {name:<20}{value}" for name, value in self._rows())

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "file", self._title()
        yield "checked on", f"{self.images} images, in a fresh process"
        yield "largest difference", f"{self.largest_difference:.1e} of a score"
        if self.sqnr_db is not None:
            yield "SQNR of the logits", f"{self.sqnr_db:.1f} dB"
        if self.simulated_db is not None:
            yield "as simulated", f"{self.simulated_db:.1f} dB"
        yield "passes", self.tolerance
        best = f"{self.top1_agreement:.1%}, the same five best {self.top5_agreement:.1%}"
        if self.names_agreement is None:
            yield "same best class", best
        else:
            yield "same names", f"of {self.names_agreement:.1%} of the images, at the thresholds"
        if self.accuracy is not None:
            yield "accuracy", f"{self.accuracy:.1%}, of the Keras model {self.model_accuracy:.1%}"
        if self.operators:
            yield "operators", self._operators()
        if self.kept_float:
            yield "kept in float", f"{len(self.kept_float)} operators: {self.price}"
        if self.latency_ratio is not None:
            yield "latency", f"{self.latency_ratio:.2f} times that of float32, 1 thread here"
        yield from self._layer_rows()

    def _title(self):
        title = self.kind
        if self.kind not in ("SavedModel", "ONNX"):
            title = f"TFLite, {self.kind}"
        title += f", {self.size_bytes / 1e6:.2f} MB"
        if self.size_ratio:
            title += f" ({1 / self.size_ratio:.1f} times smaller than float32)"
        return title

    def _operators(self):
        pieces = f"{self.delegated_pieces} pieces"
        if self.delegated_pieces == 1:
            pieces = "1 piece"
        total = sum(self.operators.values())
        return f"{total}, {self.delegated} of them taken by XNNPACK in {pieces}"

    def _layer_rows(self):
        title = "worst layers"
        for name in self.worst_layers():
            line = f"{self.layers[name]:5.1f} dB  {name}"
            before = self.layers_before.get(name)
            if before is not None:
                line += f" ({before:.1f} dB before)"
            yield title, line
            title = ""

    def worst_layers(self) -> list[str]:
        """Returns the names of the ten worst layers, the worst first; not those in float."""
        worst = sorted(self.layers, key=lambda name: self.layers[name])[:LAYERS_SHOWN]
        return [name for name in worst if self.layers[name] < FLOAT_DB]
