"""How does a Keras model become a file that other programs run, and is it right?

`to_saved_model`, `to_tflite` and `to_onnx` write a file, run it in a fresh process, compare
it with the model on images, and only then move it to its place. What a file is, and what
it says about itself: `load`, `About`.
"""

import dataclasses

import keras
import numpy as np

from effnet_tf import extras
from effnet_tf.errors import InputError
from effnet_tf.export import (
    checksum,
    choice,
    folding,
    identify,
    judging,
    onnx_file,
    safety,
    saved_model,
    soundness,
    staging,
)
from effnet_tf.export.about import About, describe
from effnet_tf.export.judging import TOLERANCE, Report, VerificationError
from effnet_tf.export.runtimes import load
from effnet_tf.export.tflite import writing
from effnet_tf.export.tflite.writing import Options
from effnet_tf.isolated import WorkerError

__all__ = [
    "About",
    "Options",
    "Report",
    "TOLERANCE",
    "VerificationError",
    "WorkerError",
    "describe",
    "load",
    "to_onnx",
    "to_saved_model",
    "to_tflite",
    "verify",
]


def to_saved_model(
    model,
    path,
    *,
    keep_batch_norm=False,
    input_dtype="float32",
    about=None,
    verify_with=None,
    labels=None,
):
    """Writes a model as a TensorFlow SavedModel, verified.

    Its signature `serving_default` takes `images`, (N, H, W, C) in [0, 255], and gives
    `probabilities` and `logits`, (N, classes) float32; `serving_bytes` takes
    `encoded_images`, (N,) JPEG or PNG files, and cuts them as evaluation does. The loaded
    object is a function from images in [0, 1] to feature vectors, as TensorFlow Hub has it.

    Args:
        model: a functional or sequential `keras.Model` with one image input.
        path: directory to write; a SavedModel there is replaced.
        keep_batch_norm: whether batch norm stays, so that it can be trained again; by
            default it is folded into the convolutions.
        input_dtype: of `images`: "float32" or "uint8".
        about: an `About`, which goes to assets/; by default `describe(model)`.
        verify_with: (N, H, W, C) images to compare on; by default seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.

    Returns:
        A `Report`.

    Raises:
        InputError: something that is no SavedModel lies at `path`, or a bad argument.
        VerificationError: the written model computes something else. `path` is as before.
    """
    model, about, images = _prepared(model, about, verify_with, labels)
    exact = judging.answer_of(model, images)
    with staging.staged(path, "saved_model.pb") as temporary:
        saved_model.write(
            model, temporary, about, keep_batch_norm=keep_batch_norm, input_dtype=input_dtype
        )
        return _verified("SavedModel", exact, temporary, images, labels)


def to_tflite(
    model, path, *, calibration=None, about=None, verify_with=None, labels=None, **options
):
    """Writes a model as a TFLite file, verified.

    The file has the named signature `serving_default`: `images`, (batch, H, W, C) in
    [0, 255], to `probabilities`, (batch, classes) (`logits` for a model without softmax);
    class names and metadata as MediaPipe wants them; and its `About`.

    Args:
        model: a functional or sequential classifier `keras.Model` with one image input of
            static size.
        path: file to write; a file there is replaced.
        calibration: (N, H, W, C) images in [0, 255] that tell the ranges of the activations
            for quantize="int8" and "int16x8". Some hundred of all classes.
        about: an `About`; by default `describe(model)`.
        verify_with: (N, H, W, C) images to compare on; by default those of `calibration`,
            or seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.
        **options: the fields of `Options`: quantize=None (what suits the network; it is
            printed), io="float", batch=1, ...

    Returns:
        A `Report`.

    Raises:
        InputError: the model has no static input size, no calibration where one is needed,
            or another bad argument.
        VerificationError: the written file computes something else. `path` is as before.
    """
    options = Options(**options)
    model = writing.classifier(model)
    if options.quantize is None:
        options = dataclasses.replace(
            options, quantize=choice.quantize(model, calibration is not None)
        )
    if calibration is not None:
        soundness.check_images("calibration", calibration, model)
    verify_with = calibration if verify_with is None else verify_with
    model, about, images = _prepared(model, about, verify_with, labels)
    return writing.write(
        model, path, options, about, calibration=calibration, images=images, labels=labels
    )


def to_onnx(model, path, *, about=None, verify_with=None, labels=None):
    """Writes a model as an ONNX file, verified in onnxruntime; needs the extra [onnx].

    Args:
        model: a functional or sequential classifier `keras.Model` with one image input.
        path: file to write; a file there is replaced.
        about: an `About`; by default `describe(model)`.
        verify_with: (N, H, W, C) images to compare on; by default seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.

    Returns:
        A `Report`.

    Raises:
        InputError: a package is missing, or a bad argument.
        VerificationError: the written file computes something else. `path` is as before.
    """
    extras.require("Writing ONNX files", *extras.ONNX)
    model, about, images = _prepared(model, about, verify_with, labels)
    exact = judging.answer_of(model, images)
    with staging.staged(path) as temporary:
        onnx_file.write(model, temporary, about)
        return _verified("ONNX", exact, temporary, images, labels)


def verify(model, path, images=None, labels=None, *, trust=False):
    """Compares an exported file with the model it was made from, in a fresh process.

    Args:
        model: the `keras.Model`.
        path: a SavedModel directory, a .tflite or an .onnx file.
        images: (N, H, W, C) in [0, 255]; by default 8 images of seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.
        trust: whether a SavedModel may do more than compute on tensors; see `load`.

    Returns:
        A `Report`.

    Raises:
        InputError: there is no such file, it is not what its report says, or not to be trusted.
        VerificationError: outputs differ by more than `TOLERANCE`, or are not finite.
    """
    kind = identify.kind(path)
    checksum.check(path)
    if kind == "SavedModel":
        safety.require(path, trust)
    if kind == "TFLite":
        about = identify.about(path)
        kind = about.quantize if about else "none"
    model, _, images = _prepared(model, None, images, labels)
    with staging.plain(path) as place:
        return _verified(kind, judging.answer_of(model, images), place, images, labels)


def _verified(kind, exact, path, images, labels):
    facts, answer = judging.observed(path, images)
    return judging.judge(kind, path, exact, answer, facts, labels=labels)


def _prepared(model, about, images, labels):
    """Returns (model with a graph, its `About`, images to verify with), checked."""
    model = folding.functional(model)
    _check_outputs(model)
    soundness.check_weights(model)
    about = about or describe(model)
    classes = model.outputs[0].shape[-1]
    if about.class_names and len(about.class_names) != classes:
        raise InputError(
            f"There are {len(about.class_names)} class names for {classes} classes: "
            "give one name for each, or none."
        )
    if images is None:
        shape = (8, *(side or 64 for side in model.inputs[0].shape[1:]))
        images = np.random.default_rng(0).integers(0, 256, shape)
    soundness.check_images("verify_with", images, model)
    if labels is not None and len(labels) != len(images):
        raise InputError(f"There are {len(labels)} labels for {len(images)} images to verify with.")
    if labels is not None and len(model.outputs[0].shape) != 2:
        raise InputError(
            "labels are for a classifier, which gives (N, classes); the model "
            f"'{model.name}' gives {model.outputs[0].shape}."
        )
    return model, about, np.asarray(images, "float32")


def _check_outputs(model):
    """Refuses outputs inside of outputs, which no file has names for."""
    outputs = model.output
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    if isinstance(parts, keras.KerasTensor):
        return
    if any(not isinstance(part, keras.KerasTensor) for part in parts):
        raise InputError(
            f"The outputs of '{model.name}' lie in one another: give the model a "
            "plain list or dict of outputs."
        )
