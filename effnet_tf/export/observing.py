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
from effnet_tf.export.tflite import costing, flatbuffer, interpreter, measuring
from effnet_tf.export.tolerances import VerificationError


def observed(
    path: str,
    inputs: Mapping[str, np.ndarray],
    *,
    floats: Sequence[str] | None = None,
    layers_of: Sequence[tuple[str, str]] = (),
    simulation: str | None = None,
    source: str | None = None,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Runs a file in a new process.

    Args:
        path: a .tflite or .onnx file, or a SavedModel directory.
        inputs: by name, an array (N, ...) for each input; images (N, H, W, C) in [0, 255].
        floats: the float32 .tflite file to compare the latency with, or none; None: no latency.
        layers_of: the (float32, other) .tflite files to compare layer by layer.
        simulation: a float .tflite file of what the file should compute, or None.
        source: the float32 .tflite file that one with 8-bit numbers was made of, to find the
            blocks that cost most; or None.

    Returns:
        The facts that `observe` returns, and the file's answer: `scores` and `logits`; with a
        simulation `simulated_scores` and `simulated_logits`, too.

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
            "simulation": simulation,
            "source": source,
        }
        try:
            (facts,) = isolated.call((observe, arguments))
        except InputError as error:  # its own interpreter does not open the file
            raise VerificationError(str(error)) from error
        return facts, dict(np.load(places[1]))


def simulated(answer: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Returns the `scores` and `logits` of the simulation in what `observed` gave; or None."""
    prefix = "simulated_"
    found = {
        name.removeprefix(prefix): values
        for name, values in answer.items()
        if name.startswith(prefix)
    }
    return found or None


def observe(
    path: str,
    inputs: str,
    out: str,
    floats: Sequence[str] | None = None,
    layers_of: Sequence[tuple[str, str]] = (),
    simulation: str | None = None,
    source: str | None = None,
) -> dict:
    """Runs a file, in a process that knows nothing of its model.

    Args:
        path: a .tflite or .onnx file, or a SavedModel directory.
        inputs: .npz file of an array (N, ...) for each input, by name.
        out: .npz file to write: `scores`, what the file's output gives, and `logits`.
        floats: the float32 .tflite file to compare the latency with, or none; None: no latency.
        layers_of: the (float32, other) .tflite files to compare layer by layer.
        simulation: a float .tflite file of what the file should compute, or None.
        source: see `observed`.

    Returns:
        A dict for JSON. Of a .tflite file: operators, delegated, delegated_pieces, milliseconds,
        latency_ratio, blocks {name: dB}, and layers, a list of dicts {name: dB}. Of others: empty.
    """
    arrays = dict(np.load(inputs))
    kind = identify.kind(path)
    if kind == "TFLite":
        _answer_of_files(path, simulation, arrays[IMAGES], out)
        return {
            **_tflite(path, arrays[IMAGES], floats, layers_of),
            "blocks": _costs(path, source, arrays[IMAGES]),
        }
    if kind == "SavedModel":
        np.savez(out, **_saved_model(path, arrays))
    else:
        np.savez(out, **_onnx(path, arrays))
    return {}


def _answer_of_files(path, simulation, images, out):
    """Writes what a .tflite file and its simulation answer."""
    answer = {}
    for prefix, file in (("", path), ("simulated_", simulation)):
        if file is not None:
            data = staging.read(file)
            run = interpreter.Classifier(data, [flatbuffer.logits(flatbuffer.read(data))])
            answer[f"{prefix}scores"], answer[f"{prefix}logits"] = run(images)
    np.savez(out, **answer)


def _tflite(path, images, floats, layers_of):
    """Returns what a .tflite file consists of and how fast it is."""
    data = staging.read(path)
    model = flatbuffer.read(data)
    delegated, pieces, _ = interpreter.delegation(data)
    milliseconds = latency_ratio = None
    if floats is not None:
        seconds, *ratios = measuring.latencies([data, *map(staging.read, floats)])
        milliseconds = 1000 * seconds
        latency_ratio = next((1 / ratio for ratio in ratios), None)
    return {
        "operators": dict(collections.Counter(flatbuffer.operator_names(model)).most_common()),
        "delegated": delegated,
        "delegated_pieces": pieces,
        "milliseconds": milliseconds,
        "latency_ratio": latency_ratio,
        "layers": [
            measuring.layers(staging.read(exact), staging.read(other), images[:16])
            for exact, other in layers_of
        ],
    }


def _costs(path, source, images):
    """Returns what blocks in float would gain, where the file has 8-bit numbers."""
    if source is None:
        return {}
    return costing.gains(staging.read(source), staging.read(path), images)


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
