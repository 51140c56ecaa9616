"""How long do operators take, each in a TFLite file of its own, and all of them in one?

Such files are what is timed on any device to predict networks that nobody has built yet.
"""

import time
from collections.abc import Iterable

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from effnet_tf.export.tflite import flatbuffer, interpreter

SCHEMA_VERSION = 3
_LOOP = 0.003  # seconds of one reading: many runs of a short operator
_ROUNDS = 9

# (kind, kernel_size, strides, input_filters, filters, side): see `file_of`.
Sizes = tuple[str, int, int, int, int, int]


class _File:
    """A TFLite file of float32 operators with random weights, as it is made."""

    def __init__(self):
        self._random = np.random.default_rng(0)
        self._graph, self._model = schema.SubGraphT(), schema.ModelT()
        self._graph.tensors, self._graph.inputs, self._graph.operators = [], [], []
        self._model.buffers = [schema.BufferT()]  # by convention the first is the empty one
        self._model.operatorCodes, self._codes = [], {}

    def _tensor(self, shape, values=None, kind=schema.TensorType.FLOAT32):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"tensor_{len(self._graph.tensors)}", shape, kind
        tensor.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), "uint8")
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def images(self, *shape):
        """Adds an input; returns the number of its tensor."""
        self._graph.inputs.append(self._tensor(shape))
        return self._graph.inputs[-1]

    def _weights(self, *shape):
        return self._tensor(shape, self._random.normal(0, 0.1, shape).astype("float32"))

    def takes(self, sizes: Sizes, number: int) -> bool:
        """Whether a tensor has the shape that an operator takes."""
        return list(self._graph.tensors[number].shape) == [1, sizes[5], sizes[5], sizes[3]]

    def add(self, sizes: Sizes, *inputs: int) -> int:
        """Adds an operator; returns the number of its result."""
        kind, kernel_size, strides, input_filters, filters, side = sizes
        made = -(-side // strides)
        shape: tuple[int, ...] = (1, made, made, filters)
        constants, options = [], None
        if kind == "FULLY_CONNECTED":
            options, shape = schema.FullyConnectedOptionsT(), (1, filters)
            constants = [self._weights(filters, input_filters), self._weights(filters)]
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            options, kernel = _convolution(kind, kernel_size, strides, input_filters, filters)
            constants = [self._weights(*kernel), self._weights(filters)]
        elif kind == "MEAN":
            axes = np.array([1, 2], "int32")
            options, shape = schema.ReducerOptionsT(), (1, 1, 1, filters)
            options.keepDims = True
            constants = [self._tensor((2,), axes, schema.TensorType.INT32)]
        elif kind == "MAX_POOL_2D":
            options = _window(kernel_size, strides)
        elif kind in ("MUL", "ADD"):
            options = {"MUL": schema.MulOptionsT, "ADD": schema.AddOptionsT}[kind]()
        return self._put(kind, [*inputs, *constants], shape, options)

    def _put(self, kind, inputs, shape, options):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs = self._code(kind), inputs
        operator.outputs = [self._tensor(shape)]
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            operator.builtinOptions = options
        self._graph.operators.append(operator)
        return operator.outputs[0]

    def _code(self, kind):
        if kind not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
            code.version = 1
            self._codes[kind] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        return self._codes[kind]

    def finished(self, output: int) -> bytes:
        """Returns the bytes of the file, which gives one tensor."""
        self._graph.outputs = [output]
        self._model.version, self._model.subgraphs = SCHEMA_VERSION, [self._graph]
        return flatbuffer.write(self._model)


def _convolution(kind, kernel_size, strides, input_filters, filters):
    """Returns the options of a convolution, and the shape of its kernel."""
    options = schema.Conv2DOptionsT()
    kernel = filters, kernel_size, kernel_size, input_filters
    if kind == "DEPTHWISE_CONV_2D":
        options = schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
        kernel = 1, kernel_size, kernel_size, filters
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, strides, strides
    return options, kernel


def _window(size, strides):
    """Returns the options of a maximum over windows."""
    options = schema.Pool2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, strides, strides
    options.filterHeight = options.filterWidth = size
    return options


def file_of(sizes: Sizes) -> bytes:
    """Returns the bytes of a float32 .tflite file of one operator, with random weights.

    Args:
        sizes: CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, MEAN (over the map), LOGISTIC,
            HARD_SWISH, MAX_POOL_2D, or MUL and ADD of two maps; side of the kernel, strides,
            channels in and out, and the side of the input, in pixels.
    """
    file, side = _File(), sizes[5]
    entering = [file.images(1, side, side, sizes[3])]
    if sizes[0] in ("MUL", "ADD"):
        entering.append(file.images(1, side, side, sizes[3]))
    return file.finished(file.add(sizes, *entering))


def file_of_all(operators: Iterable[Sizes], side: int) -> bytes:
    """Returns the bytes of a file of a whole network, with random weights.

    It takes what the network takes, and its operators wait for each other as the network's do,
    but that a residual sum adds a map to itself: what a shortcut's convolution gives, nobody reads.

    Args:
        operators: in order, see `file_of`. What follows a MEAN is computed from that, until a MUL
            on a map, which multiplies both: so squeeze-and-excite goes.
        side: of the RGB image, in pixels.
    """
    file = _File()
    now = before = file.images(1, side, side, 3)  # where the network is; what an activation takes
    aside: int | None = None  # the map, while the excitation is computed
    kind = ""
    for operator in operators:
        previous, kind = kind, operator[0]
        if kind == "MEAN":
            aside, now = now, file.add(operator, now)
        elif kind == "MUL" and aside is not None and (operator[5] > 1 or previous == "MUL"):
            now, aside = file.add(operator, aside, now), None
        elif kind == "MUL" and previous == "LOGISTIC":
            now = file.add(operator, before, now)
        elif kind in ("ADD", "MUL"):  # MUL: by a constant there, in a hard sigmoid
            now = file.add(operator, now, now)
        elif kind == "CONV_2D" and not file.takes(operator, now):
            now = file.add(operator, before)  # beside a shortcut's convolution
        else:
            before, now = now, file.add(operator, now)
    return file.finished(now)


def milliseconds_of(data: bytes, threads: int = 1) -> float:
    """Returns the milliseconds that one run of a TFLite file takes here, the median of some.

    With one thread they are those of the processor, which programs beside it disturb less.

    Args:
        data: the bytes of a .tflite file.
        threads: that compute it.
    """
    run = interpreter.open_file(data, threads)
    random = np.random.default_rng(0)
    for detail in run.get_input_details():
        run.set_tensor(detail["index"], random.normal(0, 1, detail["shape"]).astype("float32"))
    clock = time.perf_counter
    if threads == 1:
        clock = time.thread_time
    count = 1
    while _seconds(run.invoke, count, clock) < _LOOP:
        count *= 2
    found = [_seconds(run.invoke, count, clock) for _ in range(_ROUNDS)]
    return 1e3 * float(np.median(found)) / count


def _seconds(invoke, count, clock):
    start = clock()
    for _ in range(count):
        invoke()
    return clock() - start
