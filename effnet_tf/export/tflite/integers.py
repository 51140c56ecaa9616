"""How does a float TFLite file become one of 8-bit integers?

TensorFlow's own quantizer, given the ranges of the activations. We measure them: with
XNNPACK and once for all operators, which takes seconds where TFLiteConverter takes
minutes, and the range of the pixels is exact. Runs in a process of its own (isolated.py).
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import convert
from tensorflow.lite.python import schema_py_generated as schema

from effnet_tf.errors import InputError
from effnet_tf.export.tflite import flatbuffer, interpreter, measuring

PIXELS = (0.0, 255.0)
TRIED = 5  # of the blocks with the largest errors, in each round of keep_float


def calibrated(data: bytes, images: Iterable[np.ndarray], takes_pixels: bool = True) -> bytes:
    """Returns a float TFLite file that knows the range of each of its activations.

    Args:
        data: the bytes of a float32 .tflite file.
        images: iterable of batches, (N, H, W, C).
        takes_pixels: whether they are in [0, 255] whatever range these have.
    """
    model = flatbuffer.read(data)
    graph = model.subgraphs[0]
    numbers = [int(number) for operator in graph.operators for number in operator.outputs]
    run = interpreter.Classifier(data, numbers)
    numbers = [int(graph.inputs[0]), *numbers]
    low, high = np.full(len(numbers), np.inf), np.full(len(numbers), -np.inf)
    for batch in images:
        values = [batch, *run(batch)[1:]]
        low = np.minimum(low, [value.min() for value in values])
        high = np.maximum(high, [value.max() for value in values])
    ranges = dict(zip(numbers, zip(low, high)))
    if takes_pixels:
        ranges[int(graph.inputs[0])] = PIXELS
    for number, (least, most) in ranges.items():
        least, most = _usable(least, most, flatbuffer.name(graph.tensors[number].name))
        quantization = schema.QuantizationParametersT()
        quantization.min = np.array([least], "float32")
        quantization.max = np.array([most], "float32")
        graph.tensors[number].quantization = quantization
    return flatbuffer.write(model)


def _usable(least, most, name):
    """Returns a range that integers can have: finite, and wider than nothing.

    What is 0 on all images, as behind a dead channel, may have any width; a constant takes
    that from 0.
    """
    if not np.isfinite([least, most]).all():
        raise InputError(
            f"On the calibration images, '{measuring.short_name(name)}' gives "
            "numbers that are not finite. Look at the weights of that layer."
        )
    if least == most == 0:
        return 0.0, 1.0
    if least == most:
        return min(least, 0.0), max(most, 0.0)
    return least, most


def int8(data: bytes, io: str, keep_float: Sequence[str] = ()) -> bytes:
    """Returns the int8 file of a calibrated one.

    Args:
        data: what `calibrated` returned.
        io: "float", "int8" or "uint8": type of the file's input and output.
        keep_float: names of operators (of their first result) that stay float.
    """
    kind = {"float": tf.float32, "int8": tf.int8, "uint8": tf.uint8}[io]
    return convert.mlir_quantize(
        data, input_data_type=kind, output_data_type=kind, denylisted_nodes=set(keep_float)
    )


def blocks(data: bytes) -> dict[str, list[str]]:
    """Returns {block: names of its operators} of a file, such as "block2a", in their order.

    An operator in float between integers gains little: what it takes and gives is rounded
    anyway. So the operators of a block go together, and the softmax with the classifier.
    """
    found, block = {}, "pixels"
    for name in flatbuffer.result_names(flatbuffer.read(data)):
        if name.split(";")[0].count("/") > 1:  # else an operation without a layer
            block = measuring.short_name(name).split("/")[0].split("_")[0]
        found.setdefault(block, []).append(name)
    return found


def operators_of(data: bytes, wanted: Sequence[str]) -> list[str]:
    """Returns the names of the operators of blocks.

    Args:
        data: the bytes of a .tflite file.
        wanted: names of `blocks`, such as "block7a".

    Raises:
        InputError: there is no such block.
    """
    known = blocks(data)
    for block in wanted:
        if block not in known:
            raise InputError(
                f"There is no block '{block}' to keep in float; the network has {', '.join(known)}."
            )
    return [name for block in wanted for name in known[block]]


def keep_float(
    data: bytes,
    io: str,
    sqnr_of: Callable[[bytes], float],
    target: float,
    say: Callable[[str], None],
) -> tuple[bytes, list[str]]:
    """Returns (int8 file, names of the operators that stayed float): few that reach a target.

    Greedy: of the blocks that cause the largest errors at the logits, and the neighbours of
    those in float already (between two blocks in float nothing is rounded), the one whose
    staying in float helps most joins them, until the target is reached.

    Args:
        data: what `calibrated` returned.
        io: as for `int8`.
        sqnr_of: function from a file to its SQNR in dB.
        target: SQNR to reach, in dB.
        say: function that is told in a line of text what was tried.

    Raises:
        InputError: only a file without integers reaches it.
    """
    operators = blocks(data)

    def made(kept):
        names = [name for block in operators if block in kept for name in operators[block]]
        file = int8(data, io, names)
        return sqnr_of(file), file, names

    alone = {}
    for block in operators:
        alone[block] = made(operators.keys() - {block})[0]
        say(f"{block} alone in integers: {alone[block]:.1f} dB")
    kept, best = set(), made(())
    while best[0] < target and len(kept) < len(operators):
        found = {block: made(kept | {block}) for block in _candidates(alone, kept)}
        chosen = max(found, key=lambda block: found[block][0])
        kept, best = kept | {chosen}, found[chosen]
        say(f"{len(kept)} of {len(operators)} blocks in float, now {chosen}, too: {best[0]:.1f} dB")
    if len(kept) == len(operators):
        raise InputError(
            f"All blocks would have to stay in float to reach {target:g} dB: choose "
            "a lower target_sqnr, or quantize 'weights8' or 'none'."
        )
    return best[1:]


def _candidates(alone, kept):
    """Returns the blocks that may join those `kept` in float."""
    order = list(alone)
    worst = sorted((block for block in order if block not in kept), key=alone.get)[:TRIED]
    beside = [
        block
        for before, block in zip(order, order[1:])
        for block, other in ((before, block), (block, before))
        if other in kept and block not in kept
    ]
    return dict.fromkeys([*worst, *beside])


def price(integers: bytes, mixed: bytes) -> str:
    """Returns what operators in float cost, as a sentence: size, and what XNNPACK takes."""
    return f"{_cost(mixed)}; all in integers {_cost(integers)}"


def _cost(data):
    taken, pieces, operators = interpreter.delegation(data)
    in_pieces = f"{pieces} pieces"
    if pieces == 1:
        in_pieces = "1 piece"
    return (
        f"{len(data) / 1e6:.2f} MB, XNNPACK takes {taken} of {operators} operators in {in_pieces}"
    )
