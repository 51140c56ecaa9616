"""Does a written file compute what its model computes?

`judge` compares what a file gave (observing.py) with what the Keras model gives (reference.py):
a `Report`, or a VerificationError.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from effnet_tf.export import staging
from effnet_tf.export.report import TOLERANCE, Report, VerificationError
from effnet_tf.export.tflite import measuring

HARDLY_TRAINED = 0.05  # deviation of logits: probabilities within 2 % of each other


def judge(
    kind: str,
    path: str,
    exact: dict[str, np.ndarray],
    answer: dict[str, np.ndarray],
    facts: dict,
    *,
    labels: np.ndarray | None = None,
    min_sqnr: float | None = None,
    kept_float: Sequence[str] = (),
    price: str | None = None,
    size_ratio: float | None = None,
    thresholds: Sequence[float] | None = None,
) -> Report:
    """Returns the `Report` of a file.

    Args:
        kind: a key of `TOLERANCE`.
        path: the file, for its size.
        exact: dict of `scores` and `logits`, (N, ..., C), of the Keras model.
        answer: the same of the file.
        facts: what `observe` returned.
        labels: (N,) integers, -1 where unknown; (N, classes) bool of several names; or None.
        min_sqnr: of the logits, in dB, instead of the tolerance's.
        kept_float: names of the operators that stayed float.
        price: of these, a sentence.
        size_ratio: to the float32 file.
        thresholds: by class, where an image may have several names; else None.

    Raises:
        VerificationError: past the tolerance, or a number that is not finite.
    """
    tolerance = TOLERANCE[kind]
    if min_sqnr is not None:
        tolerance = dataclasses.replace(tolerance, sqnr=min_sqnr, reason="as asked")
    count = len(exact["scores"])
    exact, answer = _comparable(exact, answer)
    decibels = measuring.sqnr(exact["logits"], answer["logits"])
    report = Report(
        kind=kind,
        size_bytes=staging.size(path),
        images=count,
        sqnr_db=_rounded(decibels),
        tolerance=_sentence(tolerance),
        kept_float=list(kept_float),
        price=price,
        size_ratio=size_ratio,
        **_comparison(exact, answer, labels, thresholds),
        **_facts(facts),
    )
    finite = all(np.isfinite(values).all() for values in answer.values())
    # A probability is at most 1; logits differ in proportion to their size.
    scale = max(1.0, float(np.std(exact["scores"])))
    close = _is_close(tolerance, scale, report.largest_difference, decibels)
    if not finite or not close or _holds_variables(report.operators):
        raise VerificationError(f"{_fault(finite, close)}{_hint(exact['logits'])}:\n{report}")
    return report


def _rounded(decibels):
    """Returns dB for people; None for the infinity of equal logits."""
    if decibels == np.inf:
        return None
    return round(float(decibels), 2)


def _comparison(exact, answer, labels, thresholds):
    """Returns the fields of a `Report` that compare rows of scores and logits."""
    if thresholds is not None:
        return _comparison_of_names(exact, answer, labels, thresholds)
    return {
        "largest_difference": float(np.abs(exact["scores"] - answer["scores"]).max()),
        "top1_agreement": _agreement(exact["logits"], answer["logits"], 1),
        "top5_agreement": _agreement(exact["logits"], answer["logits"], 5),
        "accuracy": accuracy(answer["logits"], labels),
        "model_accuracy": accuracy(exact["logits"], labels),
    }


def _comparison_of_names(exact, answer, labels, thresholds):
    """The same where an image may have several names."""
    same = {
        "largest_difference": float(np.abs(exact["scores"] - answer["scores"]).max()),
        "top1_agreement": _agreement(exact["logits"], answer["logits"], 1),
        "top5_agreement": _agreement(exact["logits"], answer["logits"], 5),
        "accuracy": None,
        "model_accuracy": None,
    }
    theirs, ours = (each["scores"] >= np.asarray(thresholds) for each in (answer, exact))
    same["names_agreement"] = float((theirs == ours).all(-1).mean())
    if labels is not None and np.ndim(labels) == 2:
        same["accuracy"] = float((theirs == labels).all(-1).mean())
        same["model_accuracy"] = float((ours == labels).all(-1).mean())
    return same


def _facts(facts):
    """Returns the fields of a `Report` that `observe` has found."""
    before, after = [{}, {}, *facts.get("layers", [])][-2:]
    return {
        "operators": facts.get("operators", {}),
        "delegated": facts.get("delegated"),
        "delegated_pieces": facts.get("delegated_pieces"),
        "latency_ratio": facts.get("latency_ratio"),
        "layers": after,
        "layers_before": before,
    }


def _is_close(tolerance, scale, difference, decibels):
    if tolerance.difference is not None and not difference <= tolerance.difference * scale:
        return False
    return tolerance.sqnr is None or decibels >= tolerance.sqnr


def _comparable(exact, answer):
    """Returns two answers as rows of scores: a map (N, H, W, C) has one for every place."""
    shapes = [values["scores"].shape for values in (exact, answer)]
    if shapes[0] != shapes[1]:
        raise VerificationError(
            f"The file gives scores {shapes[1]}, the model {shapes[0]}: they "
            "are not the same network."
        )
    return _in_rows(exact), _in_rows(answer)


def _in_rows(values):
    rows = {}
    for name, each in values.items():
        if each.ndim == 1:
            each = each[:, np.newaxis]
        rows[name] = each.reshape(-1, each.shape[-1])
    return rows


def _classes(logits):
    """Returns (N, 2) logits for (N, 1), those of a sigmoid, and others as they are."""
    if logits.shape[-1] == 1:
        return np.pad(logits, ((0, 0), (1, 0)))
    return logits


def _agreement(exact, other, count):
    """Returns the mean share of each image's `count` best classes that are the same."""
    exact, other = _classes(exact), _classes(other)
    count = min(count, exact.shape[-1])
    best = [np.argsort(-scores, axis=-1, kind="stable")[:, :count] for scores in (exact, other)]
    return float(np.mean([len(np.intersect1d(*pair)) / count for pair in zip(*best)]))


def accuracy(logits: np.ndarray, labels: np.ndarray | None) -> float | None:
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
    deviation = float(np.std(measuring.centred(logits)))
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
