"""Does a written file compute what its model computes?

`judge` compares what a file gave (observing.py) with what the Keras model gives (reference.py):
a `Report`, or a VerificationError.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_tf.export import agreement, staging
from effnet_tf.export.report import Report
from effnet_tf.export.tflite import measuring
from effnet_tf.export.tolerances import BROKEN, COARSE_DB, TOLERANCE, VerificationError
from effnet_tf.messages import log

TIES_DB = 6.0  # less than what rounding leaves: a broken file has some 0 dB of its simulation
HARDLY_TRAINED = 0.05  # deviation of logits: probabilities within 2 % of each other


def judge(
    kind: str,
    path: str,
    exact: agreement.Answer,
    answer: agreement.Answer,
    facts: dict,
    *,
    simulated: agreement.Answer | None = None,
    labels: np.ndarray | None = None,
    min_sqnr: float | None = None,
    min_agreement: float | None = None,
    thresholds: Sequence[float] | None = None,
    **told: Any,
) -> Report:
    """Returns the `Report` of a file; warns of one that is right and coarse.

    Args:
        kind: a key of `TOLERANCE`.
        path: the file, for its size.
        exact: what the Keras model gives.
        answer: what the file gives.
        facts: what `observe` returned.
        simulated: what the quantised network gives in exact arithmetic; None: nobody knows,
            and of the kinds that want it only a file that is surely broken does not pass.
        labels: (N,) integers, -1 where unknown; (N, classes) bool of several names; or None.
        min_sqnr: of the logits against the Keras model's, in dB.
        min_agreement: share of the images with the Keras model's best class, in [0, 1]; of
            those with all of its names, where an image may have several.
        thresholds: by class, where an image may have several names; else None.
        **told: fields of the report: kept_float, price, size_ratio, judged_on,
            offers.

    Raises:
        VerificationError: past the tolerance or below a limit, or a number that is not finite.
    """
    count, is_map = len(exact["scores"]), exact["scores"].ndim > 2
    tolerance, wanted = _tolerance(kind, exact, simulated)
    wanted, _ = _comparable(wanted, answer)
    exact, answer = _comparable(exact, answer)
    asked = _asked(min_sqnr, min_agreement)
    report = Report(
        kind=kind,
        size_bytes=staging.size(path),
        images=count,
        sqnr_db=_rounded(measuring.sqnr(exact["logits"], answer["logits"])),
        tolerance="; ".join([_sentence(tolerance), *asked]),
        **{"kept_float": [], "price": None, "size_ratio": None, **told},
        **agreement.compared(exact, answer, labels, thresholds),
        **_facts(facts),
    )
    if is_map:
        report = dataclasses.replace(report, groups=[])
    if simulated is not None:
        found = _rounded(measuring.sqnr(wanted["logits"], answer["logits"]))
        report = dataclasses.replace(report, simulated_db=found)
    fault = _fault(report, tolerance, wanted, answer)
    if fault is None and _is_below(report, min_sqnr, min_agreement):
        fault = f"The file keeps less of the model than was asked for ({'; '.join(asked)})"
    if fault is not None:
        raise VerificationError(f"{fault}{_hint(exact['logits'])}:\n{report}")
    _warn_if_coarse(report)
    return report


def _tolerance(kind, exact, simulated):
    """Returns the `Tolerance` of a file, and the answer that it is to be close to.

    Integers round their ties in one way and floats in another, which in a coarse network adds
    about as much noise as rounding itself does (37 against 38 dB in a small B0).
    """
    tolerance = TOLERANCE[kind]
    if not tolerance.simulated:
        return tolerance, exact
    if simulated is None:
        return BROKEN, exact
    if tolerance.sqnr is not None:
        noise = measuring.sqnr(exact["logits"], simulated["logits"])
        tolerance = dataclasses.replace(tolerance, sqnr=min(tolerance.sqnr, noise - TIES_DB))
    return tolerance, simulated


def _asked(min_sqnr, min_agreement):
    """Returns what a user asks for, in words."""
    asked = []
    if min_sqnr is not None:
        asked.append(f"at least {min_sqnr:g} dB (as asked)")
    if min_agreement is not None:
        asked.append(f"the same best class on at least {min_agreement:.1%} (as asked)")
    return asked


def _is_below(report, min_sqnr, min_agreement):
    if min_sqnr is not None and report.sqnr_db is not None and not report.sqnr_db >= min_sqnr:
        return True
    return min_agreement is not None and not _agreement_of(report) >= min_agreement


def _agreement_of(report):
    """Returns the share of images of which a file says the same as the model."""
    if report.names_agreement is not None:
        return report.names_agreement
    return report.top1_agreement


def _warn_if_coarse(report):
    """Says so where the file is right, and its steps are so coarse that answers change."""
    if report.sqnr_db is None or report.sqnr_db >= COARSE_DB:
        return
    log.warning(
        f"The file computes what it should, but {report.kind} is coarse for this network: "
        f"{report.sqnr_db:.1f} dB of the logits are left, and the answer is the model's on "
        f"{_agreement_of(report):.1%} of the {report.images} images. The report below says what "
        "costs most; more calibration images may do better, too."
    )


def _rounded(decibels):
    """Returns dB for people; None for the infinity of equal logits."""
    if decibels == np.inf:
        return None
    return round(float(decibels), 2)


def _facts(facts):
    """Returns the fields of a `Report` that `observe` has found."""
    before, after = [{}, {}, *facts.get("layers", [])][-2:]
    return {
        "operators": facts.get("operators", {}),
        "delegated": facts.get("delegated"),
        "delegated_pieces": facts.get("delegated_pieces"),
        "latency_ratio": facts.get("latency_ratio"),
        "milliseconds": facts.get("milliseconds"),
        "blocks": facts.get("blocks", {}),
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


def _sentence(tolerance):
    limits = []
    if tolerance.difference is not None:
        limits.append(f"a difference of at most {tolerance.difference:.0e}")
    if tolerance.sqnr is not None:
        limits.append(f"at least {tolerance.sqnr:.3g} dB")
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


def _fault(report, tolerance, wanted, answer):
    """Returns what is wrong with a file, the beginning of a sentence; None if nothing is."""
    if not all(np.isfinite(values).all() for values in answer.values()):
        return "The file gives numbers that are not finite"
    # A probability is at most 1; logits differ in proportion to their size.
    scale = max(1.0, float(np.std(wanted["scores"])))
    difference = float(np.abs(wanted["scores"] - answer["scores"]).max())
    decibels = measuring.sqnr(wanted["logits"], answer["logits"])
    if not _is_close(tolerance, scale, difference, decibels):
        whose = "the model computes"
        if tolerance.simulated:
            whose = "its own 8-bit numbers say"
        return f"The file does not compute what {whose}"
    if _holds_variables(report.operators):
        return "The file holds resource variables, which other programs do not fill"
    return None
