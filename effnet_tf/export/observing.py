"""What does a written file answer, run where nothing of its model is known?"""

import collections
import os
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np

from effnet_tf import isolated
from effnet_tf.errors import InputError
from effnet_tf.export import identify, onnx_session, reference, staging
from effnet_tf.export.inputs import IMAGES
from effnet_tf.export.report import VerificationError
from effnet_tf.export.tflite import flatbuffer, interpreter, measuring


def observed(
    path: str,
    inputs: Mapping[str, np.ndarray],
    *,
    floats: Sequence[str] = (),
    layers_of: Sequence[tuple[str, str]] = (),
) -> tuple[dict, dict[str, np.ndarray]]:
    """Runs a file in a new process.

    Args:
        path: a .tflite or .onnx file, or a SavedModel directory.
        inputs: by name, an array (N, ...) for each input; images (N, H, W, C) in [0, 255].
        floats: the float32 .tflite file to compare the latency with, or none.
        layers_of: the (float32, other) .tflite files to compare layer by layer.

    Returns:
        The facts that `observe` returns, and the file's answer: `scores` and `logits`.

    Raises:
        VerificationError: the file cannot be opened by what it was written for.
        WorkerError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = [os.path.join(folder, name) for name in ("inputs.npz", "answer.npz")]
        np.savez(places[0], **inputs)  # type: ignore[arg-type]
        arguments = {
            "path": path,
            "inputs": places[0],
            "out": places[1],
            "floats": floats,
            "layers_of": layers_of,
        }
        try:
            (facts,) = isolated.call((observe, arguments))
        except InputError as error:  # its own interpreter does not open the file
            raise VerificationError(str(error)) from error
        return facts, dict(np.load(places[1]))


def observe(
    path: str,
    inputs: str,
    out: str,
    floats: Sequence[str] = (),
    layers_of: Sequence[tuple[str, str]] = (),
) -> dict:
    """Runs a file, in a process that knows nothing of its model.

    Args:
        path: a .tflite or .onnx file, or a SavedModel directory.
        inputs: .npz file of an array (N, ...) for each input, by name.
        out: .npz file to write: `scores`, what the file's output gives, and `logits`.
        floats: the float32 .tflite file to compare the latency with, or none.
        layers_of: the (float32, other) .tflite files to compare layer by layer.

    Returns:
        A dict for JSON. Of a .tflite file: operators, delegated, delegated_pieces,
        latency_ratio and layers, a list of dicts {name: dB}. Of others: empty.
    """
    arrays = dict(np.load(inputs))
    kind = identify.kind(path)
    if kind == "TFLite":
        return _tflite(path, arrays[IMAGES], out, floats, layers_of)
    if kind == "SavedModel":
        np.savez(out, **_saved_model(path, arrays))
    else:
        np.savez(out, **_onnx(path, arrays))
    return {}


def _tflite(path, images, out, floats, layers_of):
    """Writes what a .tflite file answers; returns what it consists of and how fast it is."""
    data = staging.read(path)
    model = flatbuffer.read(data)
    scores, logits = interpreter.Classifier(data, [flatbuffer.logits(model)])(images)
    np.savez(out, scores=scores, logits=logits)
    delegated, pieces, _ = interpreter.delegation(data)
    latency_ratio = None
    if floats:
        _, latency_ratio = measuring.latencies([staging.read(floats[0]), data])
    return {
        "operators": dict(collections.Counter(flatbuffer.operator_names(model)).most_common()),
        "delegated": delegated,
        "delegated_pieces": pieces,
        "latency_ratio": latency_ratio,
        "layers": [
            measuring.layers(staging.read(exact), staging.read(other), images[:16])
            for exact, other in layers_of
        ],
    }


def _saved_model(path, arrays):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures[interpreter.SIGNATURE]
    kinds = {name: spec.dtype for name, spec in serve.structured_input_signature[1].items()}

    def run(part):
        outputs = serve(**{name: tf.cast(values, kinds[name]) for name, values in part.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    return _answer(arrays, run)


def _onnx(path, arrays):
    session = onnx_session.opened(path, "Running ONNX files")
    names = [output.name for output in session.get_outputs()]

    def run(part):
        return dict(zip(names, session.run(names, part)))

    return _answer(arrays, run)


def _answer(arrays, run):
    """Returns scores and logits for arrays by name, 32 rows at a time."""
    parts = collections.defaultdict(list)
    for start in range(0, len(next(iter(arrays.values()))), 32):
        part = {name: values[start : start + 32] for name, values in arrays.items()}
        for name, values in run(part).items():
            parts[name].append(values)
    return reference.named_answer({name: np.concatenate(part) for name, part in parts.items()})
