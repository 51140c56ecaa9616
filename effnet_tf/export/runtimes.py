"""How is an exported classifier asked, whatever runtime it is for?

`load` makes a function from images to scores of a file of any kind; `delegation` says how
much of a TFLite file the CPU's delegate takes.
"""

import numpy as np

from effnet_tf import extras, worker
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import artefact, flat, interpreter

_BEST = "probabilities"  # where a file has several outputs


def load(path):
    """Opens a classifier: any kind, any element type, any batch.

    Args:
        path: a SavedModel, a .tflite, .onnx or .keras file; one image input, one output.

    Returns:
        A function from images (N, H, W, C), float or uint8 in [0, 255], to scores
        (N, classes) float32. It normalises and quantises what the file leaves to its user.
        Its attribute `input_shape` is (N, H, W, C), None where any will do.

    Raises:
        InputError: there is no such file, or it has other inputs than images.
    """
    opened = {"SavedModel": _SavedModel, "TFLite": _TFLite, "ONNX": _Onnx, "Keras": _Keras}[
        artefact.kind(path)]
    try:
        return Classifier(path, opened(path))
    except (InputError, ImportError):
        raise
    except Exception as error:  # each runtime has errors of its own
        raise InputError(f"'{path}' cannot be opened: {first_line(error)}.") from error


class Classifier:
    """A file as a function from images to scores; see `load`."""

    def __init__(self, path, opened):
        self.input_shape = _image_shape(opened.input_shape, path)
        self._opened = opened
        self._normalize = artefact.normalization(path)

    def __call__(self, images):
        pixels = np.asarray(images, "float32")
        if self._normalize:
            mean, std = (np.asarray(value, "float32") for value in self._normalize)
            pixels = (pixels - mean) / std
        if pixels.ndim == 4 and not len(pixels):  # which not every runtime takes
            return self(np.zeros((1, *pixels.shape[1:]), "float32"))[:0]
        size = self.input_shape[0] or len(pixels)
        return np.concatenate([self._batch(pixels[start:start + size], size)
                               for start in range(0, len(pixels), size)])

    def _batch(self, pixels, size):
        """Runs a batch, filled up with copies of its last image where it is too small."""
        missing = np.repeat(pixels[-1:], size - len(pixels), 0)
        scores = self._opened.run(np.concatenate([pixels, missing]))
        return np.asarray(scores, "float32").reshape(size, -1)[:len(pixels)]


def _image_shape(shape, path):
    if len(shape) != 4:
        raise InputError(f"'{path}' takes no images (N, H, W, C), but {tuple(shape)}.")
    return shape


def _only(inputs, path):
    if len(inputs) != 1:
        raise InputError(f"'{path}' takes {len(inputs)} inputs; a classifier takes images alone.")
    return inputs


class _SavedModel:
    def __init__(self, path):
        import tensorflow as tf
        self._module = tf.saved_model.load(path)  # keeps the variables alive
        signatures = self._module.signatures
        if "serving_default" not in signatures:
            raise InputError(f"The SavedModel '{path}' has no signature serving_default.")
        self._serve = signatures["serving_default"]
        (self._name, spec), = _only(self._serve.structured_input_signature[1].items(), path)
        self._type, self.input_shape = spec.dtype, tuple(spec.shape)

    def run(self, pixels):
        import tensorflow as tf
        images = tf.cast(np.round(pixels) if self._type.is_integer else pixels, self._type)
        outputs = self._serve(**{self._name: images})
        return outputs.get(_BEST, next(iter(outputs.values()))).numpy()


class _TFLite:
    def __init__(self, path):
        model = artefact.tflite_model(path)
        graph = model.subgraphs[0]
        number, = _only(graph.inputs, path)
        image = graph.tensors[int(number)]
        shape = image.shape if image.shapeSignature is None else image.shapeSignature
        self.input_shape = tuple(None if side < 0 else int(side)
                                 for side in (() if shape is None else shape))
        self._shift = _raw_shift(image) if artefact.about(path) is None else None
        _image_shape(self.input_shape, path)  # before TensorFlow meets operators of text
        with open(path, "rb") as file:
            self._classifier = interpreter.Classifier(file.read())

    def run(self, pixels):
        if self._shift:
            low, scale = self._shift
            pixels = (pixels - low) * scale
        return self._classifier(pixels)[0]


def _raw_shift(tensor):
    """Returns what makes pixels a quantised tensor's own integers, when it dequantises them.

    Others' quantised files mean bytes: 0 to 255, or -128 to 127.
    """
    scale = tensor.quantization.scale if tensor.quantization else None
    if scale is None or len(scale) != 1:
        return None
    lowest = -128 if flat.type_name(tensor) == "int8" else 0
    return int(tensor.quantization.zeroPoint[0]) - lowest, float(scale[0])


class _Onnx:
    def __init__(self, path):
        onnxruntime = extras.load("onnxruntime", f"Running '{path}'")
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._input, = _only(self._session.get_inputs(), path)
        names = [output.name for output in self._session.get_outputs()]
        self._output = _BEST if _BEST in names else names[0]
        self.input_shape = tuple(side if isinstance(side, int) else None
                                 for side in self._input.shape)

    def run(self, pixels):
        kind = "uint8" if self._input.type == "tensor(uint8)" else "float32"
        return self._session.run([self._output], {self._input.name: pixels.astype(kind)})[0]


class _Keras:
    def __init__(self, path):
        import keras

        import effnet_tf.layers  # noqa: F401 (registers ours)
        self._model = keras.saving.load_model(path, compile=False, safe_mode=True)
        self.input_shape = tuple(self._model.input_shape)

    def run(self, pixels):
        return self._model.predict(pixels, verbose=0)


def delegation(path):
    """Returns `interpreter.delegation` of a .tflite file: [taken, pieces, operators].

    In a process of its own, because the interpreter crashes on some damaged files.

    Raises:
        InputError: the interpreter cannot open it.
    """
    try:
        found, = worker.call(("interpreter.delegation_of", {"path": path}))
    except worker.WorkerError as error:
        raise InputError(f"'{path}' cannot be run: {first_line(error)}.") from error
    return found
