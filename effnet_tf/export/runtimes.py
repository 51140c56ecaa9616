"""How is an exported classifier asked, whatever runtime it is for?

`load` makes a function from images to scores of a file of any kind; `delegation` says how
much of a TFLite file the CPU's delegate takes.
"""

from typing import Any

import numpy as np

from effnet_tf import isolated
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import checksum, identify, layout, onnx_session, safety, staging
from effnet_tf.export.tflite import flatbuffer, interpreter

_BEST = "probabilities"  # where a file has several outputs
# The words of ONNX for the element types of layout.py.
_ONNX_TYPES = {"float": "float32", "double": "float64"}


def load(path: str, trust: bool = False) -> "Classifier":
    """Opens a classifier: any kind, any element type, any batch.

    In this process, which a damaged file may kill: the programs do it in one of their own.

    Args:
        path: a SavedModel, a .tflite, .onnx or .keras file; one image input, one output.
        trust: whether a SavedModel may do more than compute on tensors, such as write files.

    Returns:
        A function from images (N, H, W, C), float or uint8 in [0, 255], to scores
        (N, classes) float32. It normalises and quantises what the file leaves to its user.
        Its attribute `input_shape` is (N, H, W, C), None where any will do; `layout` is all
        that is known of the input.

    Raises:
        InputError: there is no such file, it is not what its report says, it has other
            inputs than images, or is not to be trusted.
    """
    kind = identify.kind(path)
    checksum.check(path)
    if kind == "SavedModel":
        safety.require(path, trust)
    opened = {"SavedModel": _SavedModel, "TFLite": _TFLite, "ONNX": _Onnx, "Keras": _Keras}[kind]
    try:
        return Classifier(path, opened(path))
    except (InputError, ImportError):
        raise
    except Exception as error:  # each runtime has errors of its own
        raise InputError(f"'{path}' cannot be opened: {first_line(error)}.") from error


class Classifier:
    """A file as a function from images to scores; see `load`."""

    def __init__(self, path: str, opened: Any):
        self.layout = opened.layout
        self.input_shape = self.layout.image_shape
        self._path, self._opened = path, opened
        self._normalize = identify.normalization(path)
        # The Keras model of a .keras file; None of others.
        self.model = getattr(opened, "model", None)
        # Of a SavedModel of ours: images (N, H, W, C) in [0, 255] -> (N, F) float32, what its
        # classifier reads; None of others.
        self.features = None
        if getattr(opened, "has_features", False):
            self.features = opened.features

    def __call__(self, images: np.ndarray) -> np.ndarray:
        pixels = np.asarray(images, "float32")
        if pixels.ndim == 4 and not len(pixels):  # which not every runtime takes
            return self(np.zeros((1, *pixels.shape[1:]), "float32"))[:0]
        self.layout.check(pixels)
        if self._normalize:
            mean, std = (np.asarray(value, "float32") for value in self._normalize)
            pixels = (pixels - mean) / std
        size = self.input_shape[0] or len(pixels)
        return np.concatenate(
            [
                self._batch(pixels[start : start + size], size)
                for start in range(0, len(pixels), size)
            ]
        )

    def _batch(self, pixels, size):
        """Runs a batch, filled up with copies of its last image where it is too small."""
        missing = np.repeat(pixels[-1:], size - len(pixels), 0)
        arranged = self.layout.arranged(np.concatenate([pixels, missing]))
        try:
            scores = self._opened.run(arranged)
            return np.asarray(scores, "float32").reshape(size, -1)[: len(pixels)]
        except Exception as error:  # each runtime has errors of its own
            raise InputError(f"'{self._path}' fails while it runs: {first_line(error)}.") from error


def best_of(outputs: Any) -> Any:
    """Returns the scores among {name: output} or [output], or the output itself."""
    if isinstance(outputs, dict):
        return outputs.get(_BEST, next(iter(outputs.values())))
    if isinstance(outputs, (list, tuple)):
        return outputs[0]
    return outputs


class _SavedModel:
    def __init__(self, path):
        import tensorflow as tf

        with staging.plain(path) as place:
            self._module = tf.saved_model.load(place)  # keeps the variables alive
        signatures = self._module.signatures
        if "serving_default" not in signatures:
            raise InputError(f"The SavedModel '{path}' has no signature serving_default.")
        self._serve = signatures["serving_default"]
        self.has_features = identify.about(path) is not None and callable(self._module)
        inputs = [
            (name, _known_shape(spec), spec.dtype.name)
            for name, spec in self._serve.structured_input_signature[1].items()
        ]
        self.layout = layout.of_inputs(path, inputs)

    def run(self, pixels):
        import tensorflow as tf

        images = tf.constant(self.layout.as_type(pixels))
        return best_of(self._serve(**{self.layout.name: images})).numpy()

    def features(self, pixels):
        """What `serving.Network.features` gives: the root takes images in [0, 1]."""
        import tensorflow as tf

        return self._module(tf.constant(pixels / 255, tf.float32)).numpy()


def _known_shape(spec):
    if spec.shape.rank is None:
        return ()
    return spec.shape


class _TFLite:
    def __init__(self, path):
        model = identify.tflite_model(path)
        self.layout = layout_of_tflite(path, model)  # before TensorFlow meets operators of text
        image = model.subgraphs[0].tensors[int(model.subgraphs[0].inputs[0])]
        self._shift = None
        if identify.about(path) is None:
            self._shift = _raw_shift(image)
        self._classifier = interpreter.Classifier(identify.content(path))

    def run(self, pixels):
        if self._shift:
            low, scale = self._shift
            pixels = (pixels - low) * scale
        return self._classifier(pixels)[0]


def layout_of_tflite(path: str, model: Any) -> layout.Layout:
    """Returns the `Layout` of a .tflite file.

    Args:
        path: of the file, for messages.
        model: its `schema.ModelT`.

    Raises:
        InputError: it takes something else than images.
    """
    if not model.subgraphs:
        raise InputError(f"'{path}' is damaged: it has no subgraph.")
    graph = model.subgraphs[0]
    return layout.of_inputs(
        path, [_described(graph.tensors[int(number)]) for number in _sequence(graph.inputs)]
    )


def _described(tensor):
    shape = tensor.shapeSignature
    if shape is None:
        shape = tensor.shape
    return flatbuffer.name(tensor.name), _sequence(shape), flatbuffer.type_name(tensor)


def _sequence(numbers):
    if numbers is None:
        return ()
    return numbers


def _raw_shift(tensor):
    """Returns what makes pixels a quantised tensor's own integers, when it dequantises them.

    Quantised files from elsewhere mean bytes: 0 to 255, or -128 to 127.
    """
    if not tensor.quantization or tensor.quantization.scale is None:
        return None
    scale = tensor.quantization.scale
    if len(scale) != 1:
        return None
    lowest = 0
    if flatbuffer.type_name(tensor) == "int8":
        lowest = -128
    return int(tensor.quantization.zeroPoint[0]) - lowest, float(scale[0])


class _Onnx:
    def __init__(self, path):
        self._session = onnx_session.opened(path, f"Running '{path}'")
        names = [output.name for output in self._session.get_outputs()]
        self._output = names[0]
        if _BEST in names:
            self._output = _BEST
        inputs = [
            (each.name, _sides(each.shape), _element_type(each.type))
            for each in self._session.get_inputs()
        ]
        self.layout = layout.of_inputs(path, inputs)

    def run(self, pixels):
        images = self.layout.as_type(pixels)
        return self._session.run([self._output], {self.layout.name: images})[0]


def _sides(shape):
    """Returns a shape with None for the sides that have but a name."""
    sides = [None] * len(shape)
    for number, side in enumerate(shape):
        if isinstance(side, int):
            sides[number] = side
    return sides


def _element_type(text):
    """Returns "float32" for ONNX' "tensor(float)"."""
    name = text.removeprefix("tensor(").removesuffix(")")
    return _ONNX_TYPES.get(name, name)


class _Keras:
    def __init__(self, path):
        from effnet_tf.models import load_model

        self.model = load_model(path, compile=False)
        self.layout = layout.of_inputs(
            path,
            [(tensor.name, tuple(tensor.shape), str(tensor.dtype)) for tensor in self.model.inputs],
        )

    def run(self, pixels):
        return best_of(self.model.predict(self.layout.as_type(pixels), verbose=0))


def delegation(path: str) -> list[int]:
    """Returns `interpreter.delegation` of a .tflite file: [taken, pieces, operators].

    In a process of its own, because the interpreter crashes on some damaged files.

    Raises:
        InputError: the interpreter cannot open it.
    """
    try:
        (found,) = isolated.call(
            (interpreter.delegation_of, {"path": path}), silence=isolated.SILENCE
        )
    except isolated.WorkerError as error:
        raise InputError(f"'{path}' cannot be run: {error.reason}.") from error
    return found
