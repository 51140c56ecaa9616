"""What does a TFLite file answer, and which of its operators does XNNPACK take?

Runs files with the interpreter that comes with TensorFlow, as most programs do: with
XNNPACK, its delegate for the CPU.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from effnet_tf.errors import InputError, first_line
from effnet_tf.export import staging
from effnet_tf.export.tflite import flatbuffer

SIGNATURE = "serving_default"


def open_file(data: bytes, threads: int = 1) -> tf.lite.Interpreter:
    """Returns an interpreter of the bytes of a .tflite file.

    Raises:
        InputError: TensorFlow cannot open it.
    """
    with warnings.catch_warnings():
        # "deprecated, use ai_edge_litert": TensorFlow 2.21 still ships and tests this one.
        warnings.simplefilter("ignore", UserWarning)
        try:
            interpreter = tf.lite.Interpreter(model_content=data, num_threads=threads)
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"TensorFlow cannot open the TFLite file: {first_line(error)}."
            ) from error
    return interpreter


class Classifier:
    """A TFLite file as a function of images.

    Args:
        data: the bytes of a .tflite file with one input.
        tensors: numbers of tensors to read, too.
        threads: that compute it.

    Call arguments:
        images: (N, H, W, C), values in [0, 255]; rounded for a file that takes integers.

    Returns:
        A list: what the file's output gives, (N, ...) float32, and then the tensors.
    """

    def __init__(self, data: bytes, tensors: Sequence[int] = (), threads: int = 1):
        if tensors:
            data = flatbuffer.with_outputs(data, tensors)
        self._interpreter = open_file(data, threads)
        (self._input,) = self._interpreter.get_input_details()
        details = {detail["index"]: detail for detail in self._interpreter.get_output_details()}
        first = self._interpreter.get_output_details()[0]
        self._outputs = [first, *(details[number] for number in tensors)]
        self.is_dynamic = self._input["shape_signature"][0] == -1
        self.shape = tuple(int(side) for side in self._input["shape"])  # of one call
        self.batch = self.shape[0]

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        images = np.asarray(images)
        size = self.batch
        if self.is_dynamic:
            size = max(len(images), 1)
        rows = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            rows.append([output[: len(part)] for output in self._run(_filled(part, size))])
        return [np.concatenate(parts) for parts in zip(*rows)]

    def _run(self, images):
        if self.is_dynamic and len(images) != self.batch:
            self._interpreter.resize_tensor_input(self._input["index"], images.shape)
            self._interpreter.allocate_tensors()
            self.batch = len(images)
        self._interpreter.set_tensor(self._input["index"], to_type(images, self._input))
        self._interpreter.invoke()
        return [
            to_float(self._interpreter.get_tensor(output["index"]), output)
            for output in self._outputs
        ]


def _filled(images, size):
    """Returns a batch of `size`: the last of a static batch is filled with its last image."""
    return np.concatenate([images, np.repeat(images[-1:], size - len(images), 0)])


def to_type(values: np.ndarray, detail: dict) -> np.ndarray:
    """Returns float values as the tensor of an interpreter's detail wants them."""
    scale, zero = detail["quantization"]
    kind = np.dtype(detail["dtype"])
    if not scale or kind.kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(kind)


def to_float(values: np.ndarray, detail: dict) -> np.ndarray:
    """Returns a tensor of an interpreter as float32."""
    scale, zero = detail["quantization"]
    if not scale:
        return values.astype("float32")
    return ((values.astype("float32") - zero) * scale).astype("float32")


def delegation_of(path: str) -> tuple[int, int, int]:
    """Returns `delegation` of the file at a path."""
    return delegation(staging.read(path))


def delegation(data: bytes) -> tuple[int, int, int]:
    """Returns (operators that XNNPACK computes, pieces they are in, all operators).

    The interpreter lists the operators of the file and, after them, the delegate's nodes,
    but not who computes what: we go back from what a node gives to what it takes.
    """
    nodes = open_file(data)._get_ops_details()  # the public interface has no such list
    operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
    pieces = [node for node in nodes if node["op_name"] == "DELEGATE"]
    producer = {
        int(tensor): number for number, node in enumerate(operators) for tensor in node["outputs"]
    }
    taken = set()
    for piece in pieces:
        known, waiting = set(map(int, piece["inputs"])), list(map(int, piece["outputs"]))
        while waiting:
            tensor = waiting.pop()
            if tensor in known or tensor not in producer:
                continue
            known.add(tensor)
            taken.add(producer[tensor])
            waiting += map(int, operators[producer[tensor]]["inputs"])
    return len(taken), len(pieces), len(operators)
