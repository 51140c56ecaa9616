"""Does a written file compute what its model computes?

`observe` runs a file where nothing but the file is known (a process of isolated.py), and
`judge` compares what came out with the Keras model: a `Report`, or a VerificationError.
"""

import collections
import dataclasses
import os
import tempfile
import time

import keras
import numpy as np

from effnet_tf import extras, isolated
from effnet_tf.errors import InputError
from effnet_tf.export import folding, identify, soundness, staging
from effnet_tf.export.report import TOLERANCE, Report, VerificationError
from effnet_tf.export.tflite import flatbuffer, interpreter

SECONDS_OF_TIMING = 2.0
HALF_PRECISION = 0.1  # of a score, between bfloat16 and float32
HARDLY_TRAINED = 0.05  # deviation of logits: probabilities within 2 % of each other


def sqnr(exact, other):
    """Returns the SQNR of (N, C) logits in dB; inf if they are equal, NaN if one is not finite."""
    exact, noise = (_centred(np.asarray(values, "float64")) for values in (exact, other - exact))
    power = np.square(noise).sum()
    return 10 * np.log10(np.square(exact).sum() / power) if power != 0 else np.inf


def _centred(logits):
    """Takes each image's mean off, which a softmax does not see."""
    return logits - logits.mean(-1, keepdims=True) if logits.shape[-1] > 1 else logits


def logits_of(data, images):
    """Returns the logits (N, C) that the bytes of a .tflite file give for images."""
    return interpreter.Classifier(data, [flatbuffer.logits(flatbuffer.read(data))])(images)[1]


def observe(path, images, out, floats=(), layers_of=()):
    """Runs a file on images, in a process that knows nothing of its model.

    Args:
        path: a .tflite file or a SavedModel directory.
        images: .npy file of (N, H, W, C) images in [0, 255].
        out: .npz file to write: `scores`, what the file's output gives, and `logits`.
        floats: the float32 .tflite file to compare the latency with, or none.
        layers_of: the (float32, other) .tflite files to compare layer by layer.

    Returns:
        A dict for JSON: operators, delegated, delegated_pieces, latency_ratio and layers,
        a list of dicts {name: dB}.
    """
    images = np.load(images)
    kind = identify.kind(path)
    if kind != "TFLite":
        np.savez(
            out, **(_saved_model(path, images) if kind == "SavedModel" else _onnx(path, images))
        )
        return {}
    data = staging.read(path)
    model = flatbuffer.read(data)
    scores, logits = interpreter.Classifier(data, [flatbuffer.logits(model)])(images)
    np.savez(out, scores=scores, logits=logits)
    delegated, pieces, _ = interpreter.delegation(data)
    return {
        "operators": dict(collections.Counter(flatbuffer.operator_names(model)).most_common()),
        "delegated": delegated,
        "delegated_pieces": pieces,
        "latency_ratio": latencies([staging.read(floats[0]), data])[1] if floats else None,
        "layers": [
            layers(staging.read(exact), staging.read(other), images[:16])
            for exact, other in layers_of
        ],
    }


def _saved_model(path, images):
    import tensorflow as tf

    serve = tf.saved_model.load(path).signatures[interpreter.SIGNATURE]
    ((name, spec),) = serve.structured_input_signature[1].items()
    return _answer(
        images,
        lambda part: {
            key: value.numpy() for key, value in serve(**{name: tf.cast(part, spec.dtype)}).items()
        },
    )


def _onnx(path, images):
    onnxruntime = extras.load("onnxruntime", "Running ONNX files")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return _answer(
        images,
        lambda part: dict(zip(names, session.run(names, {"images": part.astype("float32")}))),
    )


def _answer(images, run):
    """Returns scores and logits of (N, H, W, C) images, 32 at a time."""
    parts = [run(images[start : start + 32]) for start in range(0, len(images), 32)]
    return _named_answer({key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def _named_answer(outputs):
    """Returns the scores and logits in what a file, or a model, gives by name."""
    if set(outputs) <= {"probabilities", "logits"}:
        scores = outputs.get("probabilities", outputs.get("logits"))
        return {"scores": scores, "logits": outputs.get("logits", scores)}
    scores = _joined(outputs)
    return {"scores": scores, "logits": scores}


def latencies(data, threads=1, seconds=SECONDS_OF_TIMING):
    """Times files in turns, which a machine that is busy with other things disturbs alike.

    Args:
        data: list of the bytes of .tflite files.
        threads: of each.
        seconds: for all rounds together; there are at least 5.

    Returns:
        The median seconds per image of the first file, then for each other one the median
        ratio of its time to the first one's.
    """
    runs = [interpreter.Classifier(file, threads=threads) for file in data]
    pixels = [np.random.default_rng(0).integers(0, 256, run.shape) for run in runs]
    rounds, end = [], None
    while end is None or len(rounds) < 5 or time.monotonic() < end:
        times = []
        for run, images in zip(runs, pixels):
            start = time.perf_counter()
            run(images)
            times.append((time.perf_counter() - start) / len(images))
        if end is None:  # the first round warms up
            end = time.monotonic() + seconds
        else:
            rounds.append(times)
    times = np.array(rounds)
    return [
        float(value)
        for value in (np.median(times[:, 0]), *np.median(times[:, 1:] / times[:, :1], axis=0))
    ]


def layers(exact, other, images):
    """Returns {operator: SQNR of its result in dB} of a file against the float32 one.

    Errors of earlier operators count. Operators go by the name of their result, which the
    quantizer keeps.
    """
    numbers = [_results(flatbuffer.read(data)) for data in (exact, other)]
    names = [name for name in numbers[0] if name in numbers[1]]
    runs = [
        interpreter.Classifier(data, [found[name] for name in names])
        for data, found in zip((exact, other), numbers)
    ]
    noise, signal = np.zeros(len(names)), np.zeros(len(names))
    for start in range(0, len(images), runs[0].batch):
        pair = [run(images[start : start + runs[0].batch])[1:] for run in runs]
        for number, (true, value) in enumerate(zip(*pair)):
            noise[number] += np.square(value - true, dtype="float64").sum()
            signal[number] += np.square(true, dtype="float64").sum()
    found = 10 * np.log10(np.maximum(signal, 1e-30) / np.maximum(noise, 1e-15 * signal + 1e-30))
    return {short_name(name): round(float(value), 2) for name, value in zip(names, found)}


def _results(model):
    """Returns {name of an operator's result: number of its tensor}, without the probabilities."""
    graph = model.subgraphs[0]
    skipped = {int(number) for number in graph.outputs} | {int(graph.inputs[0])}
    return {
        flatbuffer.name(graph.tensors[operator.outputs[0]].name): int(operator.outputs[0])
        for operator in graph.operators
        if int(operator.outputs[0]) not in skipped
    }


def short_name(name):
    """Returns "block2a_dwconv_activation/Sigmoid" for the converter's name of a tensor."""
    parts = name.split(";")[0].split("/")
    return "/".join(part.removesuffix("_1") for part in (parts[1:] or parts))


def score_name(folded):
    """Returns what a model of `fold` gives: "probabilities" (softmax or sigmoid) or "logits"."""
    last, _ = folding.source_of(folded.outputs[0])
    return "probabilities" if folding.gives_scores(last) else "logits"


def answer_of(model, images):
    """Returns dict of `scores` and `logits`, (N, ..., C), that a Keras model gives for images.

    In float32, as files compute: a model of another dtype policy is compared with its
    folded self within the precision of that policy.

    Raises:
        InputError: the model gives numbers that are not finite.
        VerificationError: folding batch norm has changed the model.
    """
    images = np.asarray(images, "float32")
    folded = folding.fold(model)
    given, answer = (
        _named(network.predict(images, batch_size=32, verbose=0)) for network in (model, folded)
    )
    before, after = _joined(given), _joined(answer)
    if not np.isfinite(before).all():
        raise InputError(soundness.not_finite(folded, images, before))
    half = any(layer.compute_dtype in ("bfloat16", "float16") for layer in model._flatten_layers())
    limit = (HALF_PRECISION if half else TOLERANCE["none"].difference) * max(1, before.std())
    if not np.abs(before - after).max() <= limit:
        raise VerificationError(
            f"Folding batch norm changed the scores of '{model.name}' by "
            f"{np.abs(before - after).max():.1e} (at most {limit:.1e}): please report the layers "
            "of this model."
        )
    if not isinstance(folded.output, keras.KerasTensor):  # outputs with names
        return _named_answer(answer)
    return {"scores": after, "logits": _logits(folded, images, after)}


def _named(outputs):
    """Returns what a model gives by name: numbers for those without one."""
    if isinstance(outputs, dict):
        return outputs
    if isinstance(outputs, (list, tuple)):
        return {f"outputs_{number}": each for number, each in enumerate(outputs)}
    return {"outputs": outputs}


def _logits(folded, images, scores):
    """Returns what comes before the last softmax: probabilities below 1e-37 would be 0."""
    if score_name(folded) == "logits":
        return scores
    last, (logits, *_) = folding.source_of(folded.outputs[0])
    if getattr(last, "weights", None):  # a dense layer or convolution with a softmax in it
        logits = folding.without_scores(last)(logits)
    return keras.Model(folded.inputs, logits).predict(images, batch_size=32, verbose=0)


def _joined(outputs):
    """Returns the only one of named outputs, float32, or all of them, (N, C)."""
    parts = [np.asarray(outputs[key], "float32") for key in sorted(outputs)]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], -1)


def observed(path, images, **comparisons):
    """Runs a file in a new process; returns what `observe` does, and the file's answer."""
    with tempfile.TemporaryDirectory() as folder:
        places = [os.path.join(folder, name) for name in ("images.npy", "answer.npz")]
        np.save(places[0], images)
        try:
            (facts,) = isolated.call(
                (observe, {"path": path, "images": places[0], "out": places[1], **comparisons})
            )
        except InputError as error:  # its own interpreter does not open the file
            raise VerificationError(str(error)) from error
        return facts, dict(np.load(places[1]))


def judge(
    kind,
    path,
    exact,
    answer,
    facts,
    *,
    labels=None,
    min_sqnr=None,
    kept_float=(),
    price=None,
    size_ratio=None,
):
    """Returns the `Report` of a file.

    Args:
        kind: a key of `TOLERANCE`.
        path: the file, for its size.
        exact: dict of `scores` and `logits`, (N, ..., C), of the Keras model.
        answer: the same of the file.
        facts: what `observe` returned.
        labels: (N,) integers, -1 where unknown; or None.
        min_sqnr: of the logits, in dB, instead of the tolerance's.
        kept_float: names of the operators that stayed float.
        price: of these, a sentence.
        size_ratio: to the float32 file.

    Raises:
        VerificationError: past the tolerance, or a number that is not finite.
    """
    tolerance = TOLERANCE[kind]
    if min_sqnr is not None:
        tolerance = dataclasses.replace(tolerance, sqnr=min_sqnr, reason="as asked")
    count = len(exact["scores"])
    exact, answer = _comparable(exact, answer)
    decibels = sqnr(exact["logits"], answer["logits"])
    difference = float(np.abs(exact["scores"] - answer["scores"]).max())
    before, after = [{}, {}, *facts.get("layers", [])][-2:]
    report = Report(
        kind=kind,
        size_bytes=staging.size(path),
        images=count,
        largest_difference=difference,
        sqnr_db=None if decibels == np.inf else round(float(decibels), 2),
        top1_agreement=_agreement(exact["logits"], answer["logits"], 1),
        top5_agreement=_agreement(exact["logits"], answer["logits"], 5),
        accuracy=accuracy(answer["logits"], labels),
        model_accuracy=accuracy(exact["logits"], labels),
        operators=facts.get("operators", {}),
        delegated=facts.get("delegated"),
        delegated_pieces=facts.get("delegated_pieces"),
        latency_ratio=facts.get("latency_ratio"),
        layers=after,
        layers_before=before,
        tolerance=_sentence(tolerance),
        kept_float=list(kept_float),
        price=price,
        size_ratio=size_ratio,
    )
    finite = all(np.isfinite(values).all() for values in answer.values())
    # A probability is at most 1; logits differ in proportion to their size.
    scale = max(1.0, float(np.std(exact["scores"])))
    close = (tolerance.difference is None or difference <= tolerance.difference * scale) and (
        tolerance.sqnr is None or decibels >= tolerance.sqnr
    )
    if not finite or not close or _holds_variables(report.operators):
        raise VerificationError(f"{_fault(finite, close)}{_hint(exact['logits'])}:\n{report}")
    return report


def _comparable(exact, answer):
    """Returns two answers as rows of scores: a map (N, H, W, C) has one for every place."""
    shapes = [values["scores"].shape for values in (exact, answer)]
    if shapes[0] != shapes[1]:
        raise VerificationError(
            f"The file gives scores {shapes[1]}, the model {shapes[0]}: they "
            "are not the same network."
        )
    return [
        {
            name: each.reshape(-1, each.shape[-1] if each.ndim > 1 else 1)
            for name, each in values.items()
        }
        for values in (exact, answer)
    ]


def _classes(logits):
    """Returns (N, 2) logits for (N, 1), those of a sigmoid, and others as they are."""
    return np.pad(logits, ((0, 0), (1, 0))) if logits.shape[-1] == 1 else logits


def _agreement(exact, other, count):
    """Returns the mean share of each image's `count` best classes that are the same."""
    exact, other = _classes(exact), _classes(other)
    count = min(count, exact.shape[-1])
    best = [np.argsort(-scores, axis=-1, kind="stable")[:, :count] for scores in (exact, other)]
    return float(np.mean([len(np.intersect1d(*pair)) / count for pair in zip(*best)]))


def accuracy(logits, labels):
    """Returns the share of labelled images whose best class is their label, or None."""
    if labels is None or not (np.asarray(labels) >= 0).any():
        return None
    known = np.asarray(labels) >= 0
    return float((_classes(logits).argmax(-1) == labels)[known].mean())


def _sentence(tolerance):
    limits = []
    if tolerance.difference is not None:
        limits.append(f"a difference of at most {tolerance.difference:.0e}")
    if tolerance.sqnr is not None:
        limits.append(f"at least {tolerance.sqnr:g} dB")
    return f"{' and '.join(limits)} ({tolerance.reason})"


def _holds_variables(operators):
    """Whether a TFLite file keeps its weights outside of itself, which gives NaN."""
    return bool({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"} & set(operators))


def _hint(logits):
    """Says so where a network tells nothing that rounding could leave as it is."""
    deviation = float(np.std(_centred(logits)))
    if not deviation < HARDLY_TRAINED:
        return ""
    return (
        f". The network's own logits deviate by only {deviation:.1g}, so that rounding is as "
        "large as what it says: train it longer"
    )


def _fault(finite, close):
    if not finite:
        return "The file gives numbers that are not finite"
    if not close:
        return "The file does not compute what the model computes"
    return "The file holds resource variables, which other programs do not fill"
