"""What does a written file answer, run where nothing of its model is known?"""

import collections
import os
import tempfile
from collections.abc import Sequence

import numpy as np

from effnet_tf import isolated
from effnet_tf.errors import InputError
from effnet_tf.export import identify, onnx_session, reference, staging
from effnet_tf.export.report import VerificationError
from effnet_tf.export.tflite import flatbuffer, interpreter, measuring


def observed(
    path: str,
    images: np.ndarray,
    *,
    floats: Sequence[str] = (),
    layers_of: Sequence[tuple[str, str]] = (),
) -> tuple[dict, dict[str, np.ndarray]]:
    """Runs a file in a new process.

    Args:
        path: a .tflite or .onnx file, or a SavedModel directory.
        images: (N, H, W, C) in [0, 255].
        floats: the float32 .tflite file to compare the latency with, or none.
        layers_of: the (float32, other) .tflite files to compare layer by layer.

    Returns:
        The facts that `observe` returns, and the file's answer: `scores` and `logits`.

    Raises:
        VerificationError: the file cannot be opened by what it was written for.
        WorkerError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        places = [os.path.join(folder, name) for name in ("images.npy", "answer.npz")]
        np.save(places[0], images)
        arguments = {
            "path": path,
            "images": places[0],
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
    images: str,
    out: str,
    floats: Sequence[str] = (),
    layers_of: Sequence[tuple[str, str]] = (),
) -> dict:
    """Runs a file on images, in a process that knows nothing of its model.

    Args:
        path: a .tflite or .onnx file, or a SavedModel directory.
        images: .npy file of (N, H, W, C) images in [0, 255].
        out: .npz file to write: `scores`, what the file's output gives, and `logits`.
        floats: the float32 .tflite file to compare the latency with, or none.
        layers_of: the (float32, other) .tflite files to compare layer by layer.

    Returns:
        A dict for JSON. Of a .tflite file: operators, delegated, delegated_pieces,
        latency_ratio and layers, a list of dicts {name: dB}. Of others: empty.
    """
    pixels = np.load(images)
    kind = identify.kind(path)
    if kind == "TFLite":
        return _tflite(path, pixels, out, floats, layers_of)
    if kind == "SavedModel":
        np.savez(out, **_saved_model(path, pixels))
    else:
        np.savez(out, **_onnx(path, pixels))
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


def _saved_model(path, images):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures[interpreter.SIGNATURE]
    ((name, spec),) = serve.structured_input_signature[1].items()

    def run(part):
        outputs = serve(**{name: tf.cast(part, spec.dtype)})
        return {key: value.numpy() for key, value in outputs.items()}

    return _answer(images, run)


def _onnx(path, images):
    session = onnx_session.opened(path, "Running ONNX files")
    names = [output.name for output in session.get_outputs()]

    def run(part):
        return dict(zip(names, session.run(names, {"images": part.astype("float32")})))

    return _answer(images, run)


def _answer(images, run):
    """Returns scores and logits of (N, H, W, C) images, 32 at a time."""
    parts = collections.defaultdict(list)
    for start in range(0, len(images), 32):
        for name, values in run(images[start : start + 32]).items():
            parts[name].append(values)
    return reference.named_answer({name: np.concatenate(part) for name, part in parts.items()})
