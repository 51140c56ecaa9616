"""What is said of a written file?"""

import dataclasses
from collections.abc import Iterable, Iterator

from effnet_tf.columns import aligned
from effnet_tf.export.agreement import SURE, Group
from effnet_tf.export.offers import Offer
from effnet_tf.intervals import Estimate

BLOCKS_SHOWN, LAYERS_SHOWN = 5, 3
FLOAT_DB = 140.0  # two float32 computations differ by less noise than this


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
        groups: how it fares on all images, on those that the model is sure of, and on the others,
            with 95 % intervals; the first alone where an image may have several names, and none
            for maps, whose places are no sample.
        judged_on: which images these were.
        milliseconds: per image of a TFLite file, one thread of this machine.
        blocks: {block: dB that the logits would gain with it in float, as `keep_float` has it},
            the most costly first, by simulation; empty where 30 dB or more are left.
        offers: what agrees better than an int8 file that agrees on less than 90 %, with its price.
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
    groups: list[Group] = dataclasses.field(default_factory=list)
    judged_on: str = "those given"
    milliseconds: float | None = None
    blocks: dict = dataclasses.field(default_factory=dict)
    offers: list[Offer] = dataclasses.field(default_factory=list)

    def __str__(self):
        return "\n".join(f"  {name:<20}{value}" for name, value in self._rows())

    def _rows(self) -> Iterator[tuple[str, str]]:
        yield "file", self._title()
        yield "judged on", f"{self.images} images: {self.judged_on}; in a fresh process"
        yield from _titled("answers", self._answers())
        yield "largest difference", f"{self.largest_difference:.1e} of a score"
        if self.sqnr_db is not None:
            yield "SQNR of the logits", f"{self.sqnr_db:.1f} dB, against the Keras model"
        if self.simulated_db is not None:
            yield "as simulated", f"{self.simulated_db:.1f} dB, against what its 8-bit numbers say"
        yield "passes with", self.tolerance
        if self.operators:
            yield "operators", self._operators()
        if self.kept_float:
            yield "kept in float", f"{len(self.kept_float)} operators: {self.price}"
        if self.milliseconds is not None:
            yield "latency", self._latency()
        yield from _titled("costly blocks", self._block_lines())
        yield from _titled("worst layers", self._layer_lines())
        yield from _titled("alternatives", self._offer_lines())

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

    def _answers(self):
        """Returns the lines on answers: a table of the groups."""
        if not self.groups:
            return [f"the same best class at {self.top1_agreement:.1%} of all places"]
        same = "same best class"
        if self.names_agreement is not None:
            same = "same names, at the thresholds"
        told = "in brackets: 95 % intervals"
        if len(self.groups) > 1:
            told += f"; sure: Keras gives the best class more than {SURE}"
        head, whole = ["", "images", same], self.groups[0]
        if whole.labelled:
            head += ["accuracy", "accuracy of Keras"]
            told += f"; only Keras is right: {whole.lost}, only the file: {whole.gained}"
        return [*aligned([head, *map(self._cells, self.groups)]), f"({told})"]

    def _cells(self, group):
        cells = [group.name, str(group.images), _cell(group.agreement)]
        if self.groups[0].labelled:
            cells += [_cell(group.accuracy), _cell(group.model_accuracy)]
        return cells

    def _latency(self):
        text = f"{self.milliseconds:.3g} ms per image, 1 thread of this machine"
        if self.latency_ratio is not None:
            text += f"; {self.latency_ratio:.2f} times that of float32"
        return text

    def _block_lines(self):
        if self.blocks:
            yield "in float, each would gain the logits, by simulation:"
        for name in list(self.blocks)[:BLOCKS_SHOWN]:
            yield f"{self.blocks[name]:5.1f} dB  {name}"

    def _offer_lines(self):
        if not self.offers:
            return []
        head = ["made and measured here", "same best class", "SQNR", "size", "time, float32 = 1"]
        return aligned([head, *(offer.cells() for offer in self.offers)])

    def _layer_lines(self):
        for name in self.worst_layers():
            line = f"{self.layers[name]:5.1f} dB  {name}"
            before = self.layers_before.get(name)
            if before is not None:
                line += f" ({before:.1f} dB before)"
            yield line

    def worst_layers(self) -> list[str]:
        """Returns the names of the worst layers, the worst first; not those in float."""
        worst = sorted(self.layers, key=lambda name: self.layers[name])[:LAYERS_SHOWN]
        return [name for name in worst if self.layers[name] < FLOAT_DB]


def _titled(title: str, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yields rows of lines, the first of them with a title."""
    for line in lines:
        yield title, line
        title = ""


def _cell(estimate: Estimate | None) -> str:
    """Returns a share as text: "93.8 % (85.0 to 97.5)"; "-" where there is none."""
    if estimate is None:
        return "-"
    value, low, high = (100 * each for each in (estimate.value, estimate.low, estimate.high))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"
