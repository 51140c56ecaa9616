"""Is a file right: one that was just written, or one that lies there?"""

import dataclasses
from typing import Any

import keras
import numpy as np

from effnet_tf.export import (
    agreement,
    checksum,
    folding,
    identify,
    judging,
    observing,
    reference,
    safety,
    staging,
    subject,
)
from effnet_tf.export.agreement import Answer
from effnet_tf.export.inputs import IMAGES, Arrays
from effnet_tf.export.report import Report
from effnet_tf.export.tflite import offering, writing
from effnet_tf.export.tflite.options import Options
from effnet_tf.messages import log


def verify(
    model: keras.Model,
    path: str,
    images: Arrays | None = None,
    labels: np.ndarray | None = None,
    *,
    trust: bool = False,
) -> Report:
    """Compares an exported file with the model it was made from, in a fresh process.

    Args:
        model: the `keras.Model`.
        path: a SavedModel directory, a .tflite or an .onnx file.
        images: (N, H, W, C) in [0, 255]; for several inputs a list of arrays, or a dict by
            name; by default 8 images of seeded noise.
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
    about = identify.about(path)
    if kind == "TFLite":
        kind = "none"
        if about and about.quantize:
            kind = about.quantize
    given = subject.prepared(model, None, images, labels)
    given = dataclasses.replace(given, about=about or given.about)
    exact = reference.answer_of(given.model, folding.fold(given.model), given.inputs)
    with staging.plain(path) as place:
        return written(kind, exact, place, given)


def written(kind: str, exact: Answer, path: str, given: subject.Subject) -> Report:
    """Returns the `Report` of a file, compared with what its Keras model gives.

    Args:
        kind: a key of `TOLERANCE`.
        exact: what the Keras model gives for the inputs.
        path: the file.
        given: what it is compared on.
    """
    facts, answer = observing.observed(path, given.inputs)
    return judging.judge(
        kind,
        path,
        exact,
        answer,
        facts,
        labels=given.labels,
        thresholds=given.thresholds,
        judged_on=given.judged_on,
    )


def written_tflite(
    options: Options, exact: Answer, path: str, given: subject.Subject, made: writing.Made
) -> Report:
    """Returns the `Report` of a .tflite file that is compared with the float32 one, too.

    Arguments are those of `written`, with the `Options` and what was `Made` for them.
    """
    assert options.quantize is not None  # it has been chosen when there is a file
    files: dict[str, Any] = {"layers_of": made.compared, "simulation": made.simulation}
    files |= {"floats": [made.floats], "source": made.source}
    size_ratio: float | None = staging.size(path) / staging.size(made.floats)
    if options.quantize == "none":
        files["floats"], size_ratio = [], None
    facts, answer = observing.observed(path, given.inputs, **files)
    return judging.judge(
        options.quantize,
        path,
        exact,
        answer,
        facts,
        simulated=observing.simulated(answer),
        labels=given.labels,
        min_sqnr=options.min_sqnr,
        min_agreement=options.min_agreement,
        kept_float=list(made.kept_float),
        price=made.price,
        size_ratio=size_ratio,
        thresholds=given.thresholds,
        judged_on=given.judged_on,
        offers=_offers(options, made, given, exact, answer, facts),
    )


def _offers(options, made, given, exact, answer, facts):
    """Returns what may be written instead of an int8 file that agrees too little."""
    same = agreement.shared_best(exact["logits"], answer["logits"], 1)
    if options.quantize != "int8" or same >= offering.LOW_AGREEMENT:
        return []
    log.info(f"The best class is the model's on {same:.1%} of the images: measuring what is better")
    blocks = list(facts["blocks"])
    return offering.priced(made.source, blocks, options, given.inputs[IMAGES], exact["logits"])
