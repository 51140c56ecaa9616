"""What is inside a TFLite file, and how is it changed?

A .tflite file is a flatbuffer; TensorFlow ships its schema as Python classes. `read` and
`write` change between bytes and these objects, the others look at them or change them.
TFLite has no option for 8-bit weights that are computed in float: `weights8` writes them.
"""

import collections
from collections.abc import Iterable

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from effnet_tf.errors import InputError, first_line

IDENTIFIER = b"TFL3"
_OPERATORS = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
}
_TYPES = {
    value: name.lower()
    for name, value in vars(schema.TensorType).items()
    if not name.startswith("_")
}
# Below this many values a tensor stays float: it would save nothing worth an operator.
SMALL = 256


def read(data: bytes) -> schema.ModelT:
    """Returns the `schema.ModelT` in the bytes of a .tflite file.

    Raises:
        InputError: they are none.
    """
    if bytes(data[4:8]) != IDENTIFIER:
        raise InputError("It is not a TFLite file: its bytes 4 to 8 are not 'TFL3'.")
    try:
        return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    except Exception as error:  # whatever the offsets of a damaged file lead to
        raise InputError(f"It is a damaged TFLite file ({first_line(error)}).") from error


class _Builder(flatbuffers.Builder):
    """Aligns the contents of buffers to 16 bytes, as the schema asks (force_align)."""

    def StartVector(self, element_size, count, alignment):
        return super().StartVector(element_size, count, 16 if element_size == 1 else alignment)


def write(model: schema.ModelT) -> bytes:
    """Returns the bytes of a `schema.ModelT`."""
    builder = _Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def name(text: bytes | str | None) -> str:
    """Returns a name of the file, which may be bytes, as text."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    return text or ""


def operator_names(model: schema.ModelT, subgraph: int = 0) -> list[str]:
    """Returns the name of every operator of a subgraph, such as "CONV_2D", in order."""
    return [
        _operator_name(model.operatorCodes[operator.opcodeIndex])
        for operator in model.subgraphs[subgraph].operators
    ]


def result_names(model: schema.ModelT, subgraph: int = 0) -> list[str]:
    """Returns the name of the first result of every operator of a subgraph, in order."""
    graph = model.subgraphs[subgraph]
    return [name(graph.tensors[operator.outputs[0]].name) for operator in graph.operators]


def _operator_name(code):
    if code.customCode:
        return name(code.customCode)
    # Codes up to 127 are in the old field, too; files of old converters have only that.
    return _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "unknown")


def type_name(tensor: schema.TensorT) -> str:
    """Returns the element type of a tensor, such as "float32"."""
    return _TYPES.get(tensor.type, f"type {tensor.type}")


def constant(model: schema.ModelT, tensor: schema.TensorT) -> np.ndarray | None:
    """Returns the array of a constant float32 tensor, or None: it is computed, or another type."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or type_name(tensor) != "float32":
        return None
    return np.frombuffer(np.asarray(data, "uint8").tobytes(), "<f4").reshape(tensor.shape)


def get_entry(model: schema.ModelT, entry: str) -> bytes | None:
    """Returns the bytes of a metadata entry, or None."""
    for metadata in model.metadata or []:
        if name(metadata.name) == entry:
            return np.asarray(model.buffers[metadata.buffer].data, "uint8").tobytes()
    return None


def put_entry(model: schema.ModelT, entry: str, data: bytes) -> None:
    """Sets a metadata entry to some bytes."""
    model.metadata = [metadata for metadata in model.metadata or [] if name(metadata.name) != entry]
    metadata = schema.MetadataT()
    metadata.name, metadata.buffer = entry, _add_buffer(model, data)
    model.metadata.append(metadata)
    _drop_unused(model)


def _add_buffer(model, data):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(data, "uint8")
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def with_outputs(data: bytes, tensors: Iterable[int]) -> bytes:
    """Returns a file that gives these tensors (numbers) too, in a signature of its own.

    The interpreter computes them as it would without: what a delegate keeps to itself
    cannot be read otherwise.

    Args:
        data: the bytes of a .tflite file.
        tensors: numbers of tensors of its first subgraph.
    """
    model = read(data)
    graph = model.subgraphs[0]
    graph.outputs = [*graph.outputs, *(int(t) for t in tensors if t not in graph.outputs)]
    model.signatureDefs = []
    return write(model)


def logits(model: schema.ModelT) -> int:
    """Returns the number of the tensor of class scores, before a last softmax or sigmoid."""
    graph = model.subgraphs[0]
    makers = {
        int(operator.outputs[0]): (kind, int(operator.inputs[0]))
        for operator, kind in zip(graph.operators, operator_names(model))
    }
    number = int(graph.outputs[0])
    while makers.get(number, [""])[0] in ("DEQUANTIZE", "QUANTIZE"):
        number = makers[number][1]
    if makers.get(number, [""])[0] in ("SOFTMAX", "LOGISTIC"):
        return makers[number][1]
    return int(graph.outputs[0])


def weights8(data: bytes) -> bytes:
    """Returns a TFLite file whose large weights are int8, with their operators in float.

    Every output channel c of a kernel has a scale: w[c] ~ scale[c] * q[c], q in
    [-127, 127]; a DEQUANTIZE operator before the kernel's user says so. Interpreters
    unpack it once, when they load the file.

    Args:
        data: the bytes of a float32 .tflite file.
    """
    model = read(data)
    graph = model.subgraphs[0]
    unpacking, done = [], {}
    for operator, kind in zip(graph.operators, operator_names(model)):
        axis = {"CONV_2D": 0, "FULLY_CONNECTED": 0, "DEPTHWISE_CONV_2D": 3}.get(kind)
        if axis is None:
            continue
        number = int(operator.inputs[1])
        values = constant(model, graph.tensors[number])
        if values is None or values.size < SMALL:
            continue
        if number not in done:
            done[number] = len(graph.tensors)
            unpacking.append(_unpack(model, number, values, axis))
        operator.inputs = [operator.inputs[0], done[number], *operator.inputs[2:]]
    graph.operators = [*unpacking, *graph.operators]  # producers before users
    _drop_unused(model)
    return write(model)


def _unpack(model, number, values, axis):
    """Makes tensor `number` int8; returns the operator that makes a new float tensor of it."""
    graph = model.subgraphs[0]
    packed = graph.tensors[number]
    scale, quantized = quantize_weights(values, axis)
    unpacked = schema.TensorT()
    unpacked.name = f"{name(packed.name)}_unpacked"
    unpacked.shape, unpacked.type, unpacked.buffer = packed.shape, packed.type, 0
    graph.tensors.append(unpacked)
    packed.type, packed.buffer = schema.TensorType.INT8, _add_buffer(model, quantized.tobytes())
    packed.quantization = _quantization(scale, axis)
    return dequantize(model, number, len(graph.tensors) - 1)


def with_uint8_input(data: bytes) -> bytes:
    """Returns a float file that takes pixels as bytes: a DEQUANTIZE of scale 1 comes first.

    (XNNPACK takes no CAST from bytes.)

    Args:
        data: the bytes of a .tflite file with one float32 input in [0, 255].
    """
    model = read(data)
    graph = model.subgraphs[0]
    number = int(graph.inputs[0])
    pixels = schema.TensorT()
    pixels.name = f"{name(graph.tensors[number].name)}_bytes"
    pixels.shape, pixels.buffer = graph.tensors[number].shape, 0
    pixels.shapeSignature = graph.tensors[number].shapeSignature
    pixels.type = schema.TensorType.UINT8
    pixels.quantization = _quantization(np.ones(1), 0)
    graph.tensors.append(pixels)
    graph.operators = [dequantize(model, len(graph.tensors) - 1, number), *graph.operators]
    graph.inputs = [len(graph.tensors) - 1]
    for signature in model.signatureDefs or []:
        for tensor in signature.inputs:
            tensor.tensorIndex = len(graph.tensors) - 1
    return write(model)


def _quantization(scale, axis):
    """Returns the parameters of a symmetric quantization, a scale per channel of an axis."""
    quantization = schema.QuantizationParametersT()
    quantization.scale = scale.astype("float32")
    quantization.zeroPoint = np.zeros(len(scale), "int64")
    quantization.quantizedDimension = axis
    return quantization


def dequantize(model: schema.ModelT, packed: int, unpacked: int) -> schema.OperatorT:
    """Returns an operator that makes float tensor `unpacked` from quantized `packed`."""
    operator = _one_to_one(model, "DEQUANTIZE", packed, unpacked, version=5)  # 5: per channel
    operator.builtinOptionsType = schema.BuiltinOptions.DequantizeOptions
    operator.builtinOptions = schema.DequantizeOptionsT()
    return operator


def quantize(model: schema.ModelT, source: int, packed: int) -> schema.OperatorT:
    """Returns an operator that makes quantized tensor `packed` from float `source`."""
    operator = _one_to_one(model, "QUANTIZE", source, packed, version=2)
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    return operator


def _one_to_one(model, kind, source, target, version):
    operator = schema.OperatorT()
    operator.opcodeIndex = _code(model, kind, version)
    operator.inputs, operator.outputs = [source], [target]
    return operator


def quantize_weights(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (scale per channel, int8 values): symmetric, as TFLite's own converter does.

    Args:
        values: float array.
        axis: of the output channels.
    """
    values = np.asarray(values, "float32")
    others = tuple(number for number in range(values.ndim) if number != axis)
    scale = np.abs(values).max(others) / 127
    scale = np.where(scale > 0, scale, 1)  # a channel of zeros
    shape = [1] * values.ndim
    shape[axis] = -1
    return scale, np.clip(np.round(values / scale.reshape(shape)), -127, 127).astype("int8")


def _code(model, kind, version):
    """Returns the index of an operator code, which is added if need be."""
    value = getattr(schema.BuiltinOperator, kind)
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == value and code.version >= version:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = value, version
    code.deprecatedBuiltinCode = min(value, 127)
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _drop_unused(model):
    """Empties the buffers that no tensor and no metadata entry uses any more."""
    used = collections.Counter(
        tensor.buffer for graph in model.subgraphs for tensor in graph.tensors
    )
    used.update(metadata.buffer for metadata in model.metadata or [])
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
