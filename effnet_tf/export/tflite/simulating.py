"""What does a file with 8-bit numbers mean: what would exact arithmetic make of its steps?

`simulated` gives a float file that computes it. A file that is far from the float network may yet
be right, its steps are just coarse; a file that is far from its own simulation is broken.
"""

from collections.abc import Collection

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from effnet_tf.export.tflite import flatbuffer, measuring
from effnet_tf.export.tolerances import VerificationError

_INTEGERS = (schema.TensorType.INT8, schema.TensorType.INT16)
_STEP_OFF = 0.51  # steps that a rounded weight may be off; the rest of 0.5 is float32's


def simulated(floats: bytes, file: bytes, restored: Collection[str] = ()) -> bytes:
    """Returns a float TFLite file that computes what a file with 8-bit numbers means.

    Args:
        floats: the bytes of the float32 .tflite file that the other was made of.
        file: the bytes of a "weights8", "int8" or "int16x8" one.
        restored: names of operators that compute in float all the same.

    Raises:
        VerificationError: a weight of the file is not that of the float one, rounded.
    """
    simulation = _Simulation(flatbuffer.read(floats), flatbuffer.read(file), restored)
    return simulation.written()


class _Simulation:
    """Rounds the numbers of a float file as another file says, operator by operator."""

    def __init__(self, model, rounded, restored):
        self._model, self._graph, self._other = model, model.subgraphs[0], rounded.subgraphs[0]
        self._data, self._operators, self._inputs = rounded.buffers, [], {}
        kinds = flatbuffer.operator_names(rounded)
        makers = {int(operator.outputs[0]): operator for operator in self._other.operators}
        self._unpacked, self._named = {}, {}
        names = flatbuffer.result_names(rounded)
        for operator, kind, name in zip(self._other.operators, kinds, names):
            source, result = int(operator.inputs[0]), int(operator.outputs[0])
            if kind == "DEQUANTIZE":
                self._unpacked[result] = source
            if kind in ("DEQUANTIZE", "QUANTIZE"):  # who computed it has another name
                operator = makers.get(source, operator)
            if name not in restored:
                self._named[name] = operator

    def written(self):
        """Returns the bytes of the file."""
        names = flatbuffer.result_names(self._model)
        for operator, name in zip(self._graph.operators, names):
            twin = self._named.get(name)
            if twin is None:  # of the float file alone, or restored
                self._operators.append(operator)
            else:
                self._take(operator, twin)
        self._graph.operators = self._operators
        return flatbuffer.write(self._model)

    def _take(self, operator, twin):
        """Adds an operator with what its twin in the other file rounds."""
        numbers = list(map(int, operator.inputs))
        for place, (number, other) in enumerate(zip(numbers, map(int, twin.inputs))):
            if number < 0 or other < 0:  # left out
                continue
            values = flatbuffer.constant(self._model, self._graph.tensors[number])
            if values is None:
                numbers[place] = self._rounded_input(number, self._other.tensors[other])
            else:
                packed = self._other.tensors[self._unpacked.get(other, other)]
                self._round_constant(number, values, packed)
        operator.inputs = numbers
        self._operators.append(operator)
        result = self._other.tensors[int(twin.outputs[0])]
        if _is_rounded(result):
            number = int(operator.outputs[0])
            operator.outputs = [self._copy(number, "exact")]
            self._round(operator.outputs[0], number, result)

    def _round_constant(self, number, values, packed):
        """Gives a constant the values that the other file has for it."""
        if packed.type != schema.TensorType.INT8 or not _is_rounded(packed):
            return
        data = self._data[packed.buffer].data
        integers = np.frombuffer(np.asarray(data, "uint8").tobytes(), "int8").reshape(values.shape)
        shape = [1] * values.ndim
        if len(packed.quantization.scale) > 1:
            shape[packed.quantization.quantizedDimension] = -1
        scale, zero = (
            np.asarray(each, "float32").reshape(shape)
            for each in (packed.quantization.scale, packed.quantization.zeroPoint)
        )
        found = (integers - zero) * scale
        if not (np.abs(found - values) <= _STEP_OFF * scale).all():
            name = measuring.short_name(flatbuffer.name(self._graph.tensors[number].name))
            raise VerificationError(
                f"The 8-bit weights of '{name}' are not those of the network, rounded. Please "
                "report the layers of this model."
            )
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(found.astype("<f4").tobytes(), "uint8")
        self._model.buffers.append(buffer)
        self._graph.tensors[number].buffer = len(self._model.buffers) - 1

    def _rounded_input(self, number, other):
        """Returns the number of a tensor rounded as the other file's operator takes it."""
        if not _is_rounded(other):
            return number
        key = number, float(other.quantization.scale[0])
        if key not in self._inputs:
            self._inputs[key] = self._copy(number, f"rounded_{len(self._inputs)}")
            self._round(number, self._inputs[key], other)
        return self._inputs[key]

    def _copy(self, number, suffix):
        """Returns the number of a new float tensor like another one."""
        tensor, new = self._graph.tensors[number], schema.TensorT()
        new.name = f"{flatbuffer.name(tensor.name)}_{suffix}"
        new.shape, new.shapeSignature, new.type = tensor.shape, tensor.shapeSignature, tensor.type
        new.buffer = 0
        self._graph.tensors.append(new)
        return len(self._graph.tensors) - 1

    def _round(self, source, target, other):
        """Adds what rounds tensor `source` to the steps of the other file's tensor."""
        number = self._copy(source, "integers")
        tensor = self._graph.tensors[number]
        tensor.type, tensor.quantization = other.type, other.quantization
        self._operators.append(flatbuffer.quantize(self._model, source, number))
        self._operators.append(flatbuffer.dequantize(self._model, number, target))


def _is_rounded(tensor):
    """Whether a tensor holds integers with a step."""
    quantization = tensor.quantization
    return (
        tensor.type in _INTEGERS
        and quantization is not None
        and quantization.scale is not None
        and len(quantization.scale) > 0
    )
