"""How does a Keras model become a file that other programs run, and is it right?

`to_saved_model`, `to_tflite` and `to_onnx` write a file, run it in a fresh process, compare
it with the model on images, and only then move it to its place.
"""

import dataclasses
import os
import tempfile
from typing import Any

import keras
import numpy as np

from effnet_tf import extras
from effnet_tf.export import (
    choice,
    folding,
    onnx_file,
    placing,
    reference,
    saved_model,
    soundness,
    staging,
    subject,
    verifying,
)
from effnet_tf.export.about import About, describe
from effnet_tf.export.inputs import Arrays
from effnet_tf.export.report import Report
from effnet_tf.export.tflite import metadata
from effnet_tf.export.tflite import writing as tflite_writing
from effnet_tf.export.tflite.options import Options


def to_saved_model(
    model: keras.Model,
    path: str,
    *,
    keep_batch_norm: bool = False,
    input_dtype: str = "float32",
    about: About | None = None,
    verify_with: Arrays | None = None,
    labels: np.ndarray | None = None,
) -> Report:
    """Writes a model as a TensorFlow SavedModel, verified.

    Its signature `serving_default` takes `images`, (N, H, W, C) in [0, 255], and gives
    `probabilities` and `logits`, (N, classes) float32; `serving_bytes` takes
    `encoded_images`, (N,) JPEG or PNG files, and cuts them as evaluation does. The loaded
    object is a function from images in [0, 1] to feature vectors, as TensorFlow Hub has it.
    Of a model with several inputs there is `serving_default` alone, which takes them by
    the names that they have in Keras.

    Args:
        model: a functional or sequential `keras.Model`.
        path: directory to write; a SavedModel there is replaced.
        keep_batch_norm: whether batch norm stays, so that it can be trained again; by
            default it is folded into the convolutions. For models of images alone.
        input_dtype: of `images`: "float32" or "uint8".
        about: an `About`, which goes to assets/; by default `describe(model)`.
        verify_with: (N, H, W, C) images to compare on; for several inputs a list of arrays,
            or a dict by name; by default seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.

    Returns:
        A `Report`.

    Raises:
        InputError: something that is not a SavedModel lies at `path`, or a bad argument.
        VerificationError: the written model computes something else. `path` is as before.
        SaveError: it cannot be written. `path` is as before.
    """
    staging.prepare(path, staging.MARK)
    given = subject.prepared(model, about, verify_with, labels)
    saved_model.check_options(given.model, keep_batch_norm, input_dtype)
    folded = folding.fold(given.model)
    exact = reference.answer_of(given.model, folded, given.inputs)
    network = folded
    if keep_batch_norm:
        network = given.model
    with placing.placed(path, staging.MARK) as temporary:
        saved_model.write(
            network,
            temporary,
            given.about,
            keep_batch_norm=keep_batch_norm,
            input_dtype=input_dtype,
        )
        return verifying.written("SavedModel", exact, temporary, given)


def to_tflite(
    model: keras.Model,
    path: str,
    *,
    calibration: np.ndarray | None = None,
    about: About | None = None,
    verify_with: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    quantize: str | None = None,
    **options: Any,
) -> Report:
    """Writes a model as a TFLite file, verified.

    The file has the named signature `serving_default`: `images`, (batch, H, W, C) in
    [0, 255], to `probabilities`, (batch, classes) (`logits` for a model without softmax);
    class names and metadata as MediaPipe wants them; and its `About`.

    Args:
        model: a functional or sequential classifier `keras.Model` with one image input of
            static size.
        path: file to write; a file there is replaced.
        calibration: (N, H, W, C) images in [0, 255] that tell the ranges of the activations
            for quantize="int8" and "int16x8", some hundred of all classes; and for which the
            weights of these and of "weights8" are rounded: 64 will do.
        about: an `About`; by default `describe(model)`.
        verify_with: (N, H, W, C) images to compare on; by default those of `calibration`,
            else drawn ones for weights rounded to 8 bits, else seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.
        quantize: see `Options`; None: what suits the network, it is printed.
        **options: the other fields of `Options`: io="float", batch=1, ...

    Returns:
        A `Report`.

    Raises:
        InputError: the model has no static input size, no calibration where one is needed,
            or another bad argument.
        VerificationError: the written file computes something else. `path` is as before.
        SaveError: it cannot be written. `path` is as before.
    """
    staging.prepare(path)
    wanted = Options(quantize=quantize, **options)
    model = subject.classifier(model)
    if quantize is None:
        quantize = choice.quantize(model, calibration is not None)
        wanted = dataclasses.replace(wanted, quantize=quantize)
    return write_tflite(
        model,
        path,
        wanted,
        calibration=calibration,
        about=about,
        verify_with=verify_with,
        labels=labels,
    )


def write_tflite(
    model: keras.Model,
    path: str,
    options: Options,
    *,
    calibration: np.ndarray | None = None,
    about: About | None = None,
    verify_with: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> Report:
    """Writes a model as the TFLite file that `Options` with a `quantize` describe.

    Arguments, result and errors are those of `to_tflite`.
    """
    model = subject.classifier(model)
    if calibration is not None:
        soundness.check_array("calibration images", calibration, model.inputs[0].shape[1:])
    about = about or describe(model)
    given = subject.for_tflite(options, model, about, calibration, verify_with, labels)
    subject.check_tflite(options, given, calibration)
    if options.io != "float":
        rounded = {name: np.round(array) for name, array in given.inputs.items()}
        given = dataclasses.replace(given, inputs=rounded)
    folded = folding.fold(given.model)
    exact = reference.answer_of(given.model, folded, given.inputs)
    with (
        placing.placed(path) as temporary,
        tempfile.TemporaryDirectory(dir=os.path.dirname(temporary)) as folder,
    ):
        made = tflite_writing.write(
            folded, folder, options, calibration=calibration, takes_pixels=given.about.normalizes
        )
        about = dataclasses.replace(given.about, quantize=options.quantize)
        staging.write(temporary, metadata.attach(staging.read(made.file), about))
        return verifying.written_tflite(options, exact, temporary, given, made)


def to_onnx(
    model: keras.Model,
    path: str,
    *,
    about: About | None = None,
    verify_with: Arrays | None = None,
    labels: np.ndarray | None = None,
) -> Report:
    """Writes a model as an ONNX file, verified in onnxruntime; needs the extra [onnx].

    Args:
        model: a functional or sequential `keras.Model`.
        path: file to write; a file there is replaced.
        about: an `About`; by default `describe(model)`.
        verify_with: (N, H, W, C) images to compare on; for several inputs a list of arrays,
            or a dict by name; by default seeded noise.
        labels: of these images, (N,) integers, -1 where unknown: adds accuracies.

    Returns:
        A `Report`.

    Raises:
        InputError: a package is missing, or a bad argument.
        VerificationError: the written file computes something else. `path` is as before.
        SaveError: it cannot be written. `path` is as before.
    """
    staging.prepare(path)
    extras.require("Writing ONNX files", *extras.ONNX)
    given = subject.prepared(model, about, verify_with, labels)
    folded = folding.fold(given.model)
    exact = reference.answer_of(given.model, folded, given.inputs)
    with placing.placed(path) as temporary:
        onnx_file.write(folded, temporary, given.about)
        return verifying.written("ONNX", exact, temporary, given)
