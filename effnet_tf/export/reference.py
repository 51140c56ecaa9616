"""What does the Keras model itself answer, and does folding batch norm keep that?"""

from collections.abc import Mapping

import keras
import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.export import ends, graph, inputs, soundness
from effnet_tf.export.tolerances import TOLERANCE, VerificationError

HALF_PRECISION = 0.1  # of a score, between bfloat16 and float32


def answer_of(
    model: keras.Model, folded: keras.Model, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns dict of `scores` and `logits`, (N, ..., C), that a Keras model gives.

    In float32, as files compute: a model of another dtype policy is compared with its
    folded self within the precision of that policy.

    Args:
        model: a functional `keras.Model`.
        folded: what `fold` made of it.
        arrays: for each input, by the name that a file has for it; pixels in [0, 255].

    Raises:
        InputError: the model gives numbers that are not finite.
        VerificationError: folding batch norm has changed the model.
    """
    given, answer = (
        _named(network.predict(inputs.packed(network, arrays), batch_size=32, verbose=0))
        for network in (model, folded)
    )
    before, after = _joined(given), _joined(answer)
    if not np.isfinite(before).all():
        raise InputError(soundness.not_finite(folded, arrays, before))
    _check_folding(model, before, after)
    if not isinstance(folded.output, keras.KerasTensor):  # outputs with names
        return named_answer(answer)
    return {"scores": after, "logits": _logits(folded, arrays, after)}


def _check_folding(model, before, after):
    """Raises VerificationError if the scores of a model and of its folded self differ."""
    limit = TOLERANCE["none"].difference
    if any(layer.compute_dtype in ("bfloat16", "float16") for layer in model._flatten_layers()):
        limit = HALF_PRECISION
    limit *= max(1, before.std())
    if not np.abs(before - after).max() <= limit:
        raise VerificationError(
            f"Folding batch norm changed the scores of '{model.name}' by "
            f"{np.abs(before - after).max():.1e} (at most {limit:.1e}): please report the layers "
            "of this model."
        )


def _named(outputs):
    """Returns what a model gives by name: numbers for those without one."""
    if isinstance(outputs, dict):
        return outputs
    if isinstance(outputs, (list, tuple)):
        return {f"outputs_{number}": each for number, each in enumerate(outputs)}
    return {"outputs": outputs}


def _logits(folded, arrays, scores):
    """Returns what comes before the last softmax: probabilities below 1e-37 would be 0."""
    if ends.score_name(folded) == "logits":
        return scores
    last, (logits, *_) = graph.source_of(folded.outputs[0])
    if getattr(last, "weights", None):  # a dense layer or convolution with a softmax in it
        logits = ends.without_scores(last)(logits)
    before = keras.Model(folded.inputs, logits)
    return before.predict(inputs.packed(before, arrays), batch_size=32, verbose=0)


def named_answer(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the scores and logits in what a file, or a model, gives by name."""
    if set(outputs) <= {"probabilities", "logits"}:
        scores = next(outputs[name] for name in ("probabilities", "logits") if name in outputs)
        return {"scores": scores, "logits": outputs.get("logits", scores)}
    scores = _joined(outputs)
    return {"scores": scores, "logits": scores}


def _joined(outputs):
    """Returns the only one of named outputs, float32, or all of them, (N, C)."""
    parts = [np.asarray(outputs[key], "float32") for key in sorted(outputs)]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], -1)
