"""Which range should the 256 integers of an activation span?

From its least to its largest value, nothing is cut off and the steps are coarse; in a narrower
range they are finer, and what is rare is cut off. Each activation is rounded alone, in a few
ranges, and keeps the one that changes the logits least. Alone, because under the errors of all
the others what a range does to one of them is luck.
"""

from collections.abc import Callable

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from effnet_tf.export.tflite import flatbuffer, measuring

MOST_IMAGES = 32  # with 8, ranges came out too narrow for other photographs
WIDTHS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of the measured range
HOPELESS = 1.15  # times the least error so far: no narrower range is tried
# Others have a range of their own by TFLite's specification, or the range of what they take.
KINDS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "MEAN")
Progress = Callable[[int, int], None]  # takes (tensors done, of how many)


def chosen(images: np.ndarray) -> np.ndarray:
    """Returns at most `MOST_IMAGES` of (N, H, W, C) images, evenly spread."""
    number = min(MOST_IMAGES, len(images))
    return np.asarray(images[np.linspace(0, len(images) - 1, number).astype(int)])


def narrowed(data: bytes, images: np.ndarray, progress: Progress | None = None) -> bytes:
    """Returns a calibrated file whose ranges lose least of its logits.

    Args:
        data: what `integers.calibrated` returned.
        images: (N, H, W, C) in [0, 255] to try them on.
        progress: None, or a function of (tensors done, of how many).
    """
    model = flatbuffer.read(data)
    exact = measuring.logits_of(data, images)
    numbers = _numbers(model)
    for done, number in enumerate(numbers, 1):
        quantization = model.subgraphs[0].tensors[number].quantization

        def error(width, number=number):
            file = _rounded_alone(data, number, width)
            noise = measuring.centred(measuring.logits_of(file, images) - exact)
            return np.square(noise, dtype="float64").sum()

        if quantization.min[0] < quantization.max[0]:  # one that is always zero has no steps
            width = _best_width(error)
            quantization.min, quantization.max = quantization.min * width, quantization.max * width
        if progress:
            progress(done, len(numbers))
    return flatbuffer.write(model)


def _numbers(model):
    """Returns the numbers of the tensors whose range may be chosen, from the first kernel on."""
    kinds = flatbuffer.operator_names(model)
    first = next((place for place, kind in enumerate(kinds) if "CONV" in kind), 0)
    operators = list(zip(model.subgraphs[0].operators, kinds))[first:]
    return [int(operator.outputs[0]) for operator, kind in operators if kind in KINDS]


def _best_width(error):
    """Returns the width of the least error, which falls and then rises."""
    best, least = 1.0, error(1.0)
    for width in WIDTHS:
        found = error(width)
        if found < least:
            best, least = width, found
        elif found > HOPELESS * least:
            break
    return best


def _rounded_alone(data, number, width):
    """Returns the float file with one tensor rounded to the integers of a part of its range."""
    model = flatbuffer.read(data)
    graph = model.subgraphs[0]
    integers, rounded = (_like(graph, number, kind) for kind in ("INT8", "FLOAT32"))
    graph.tensors[integers].quantization = _steps(graph.tensors[number].quantization, width)
    place = [int(operator.outputs[0]) for operator in graph.operators].index(number) + 1
    for operator in graph.operators[place:]:
        operator.inputs = [rounded if each == number else each for each in operator.inputs]
    graph.operators[place:place] = [
        flatbuffer.quantize(model, number, integers),
        flatbuffer.dequantize(model, integers, rounded),
    ]
    graph.outputs = [rounded if each == number else each for each in graph.outputs]
    return flatbuffer.write(model)


def _like(graph, number, kind):
    """Adds a tensor of another type like one of the graph; returns its number."""
    tensor, new = graph.tensors[number], schema.TensorT()
    new.name, new.type, new.buffer = f"alone_{kind}", getattr(schema.TensorType, kind), 0
    new.shape, new.shapeSignature = tensor.shape, tensor.shapeSignature
    graph.tensors.append(new)
    return len(graph.tensors) - 1


def _steps(measured, width):
    """Returns the scale and zero point of 256 integers over a part of a measured range, and 0."""
    low, high = min(measured.min[0] * width, 0), max(measured.max[0] * width, 0)
    quantization = schema.QuantizationParametersT()
    quantization.scale = np.array([(high - low) / 255], "float32")
    zero = np.clip(np.round(-128 - low / quantization.scale), -128, 127)
    quantization.zeroPoint = zero.astype("int64")
    return quantization
