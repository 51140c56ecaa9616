"""How is an evaluation told, in lines of text and in numbers?"""

import math
from collections.abc import Iterable
from typing import Any

from effnet_tf.columns import aligned
from effnet_tf.errors import printable
from effnet_tf.inference import confusion
from effnet_tf.inference.evaluating import Evaluation, MultiEvaluation
from effnet_tf.inference.metrics import Summary
from effnet_tf.inference.multi import MultiSummary

CONFUSIONS = 10  # that are shown
MOST_CLASSES = 50  # lines of a table
HOW = (
    "Intervals are of 95 %: Wilson's for top-1 and top-5, the normal one for the loss, of a "
    "bootstrap for the others."
)


def lines(evaluation: Evaluation) -> list[str]:
    """Returns all that is printed of an evaluation."""
    parts = [
        aligned(number_rows(evaluation.summary)),
        [HOW, counts(evaluation)],
        _classes(evaluation),
        _confusions(evaluation),
    ]
    found = []
    for part in parts:
        found += ["", *part]
    return found


def number_rows(summary: Summary) -> list[list[str]]:
    """Returns the cells of a table of all numbers with their intervals, the header first."""
    shares = [
        ("top-1", summary.top1),
        ("top-5", summary.top5),
        ("mean accuracy of the classes", summary.class_accuracy),
        ("expected calibration error", summary.calibration_error),
    ]
    rows = [["", "", "from", "to"]]
    for title, each in shares:
        rows.append([title, percent(each.value), percent(each.low), percent(each.high)])
    loss = summary.loss
    rows.insert(3, ["loss", *(number(value) for value in (loss.value, loss.low, loss.high))])
    return rows


def percent(share: float) -> str:
    """Returns a share as text: "91.67 %"; "-" where there is none."""
    if math.isnan(share):
        return "-"
    return f"{100 * share:.2f} %"


def number(value: float) -> str:
    """Returns a number as text: "0.6931"; "-" where there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}"


def known(value: Any) -> Any:
    """Returns a number, or a text, as JSON has it: None where there is none, for it has no NaN."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def estimates(summary: Summary | MultiSummary, names: Iterable[str]) -> dict[str, Any]:
    """Returns what report.json says of the numbers of these names, and of their intervals."""
    found: dict[str, Any] = {}
    for name in names:
        each = getattr(summary, name)
        found[name] = known(each.value)
        found[f"{name}_interval"] = [known(each.low), known(each.high)]
    return found


def counts(evaluation: Evaluation) -> str:
    """Returns what was counted, what was not, and how quick it was."""
    summary, text = evaluation.summary, ""
    if summary.bad:
        text += f", {summary.bad:,} of which cannot be used and count as wrong in top-1 and top-5"
    if summary.unknown:
        text += f"; {summary.unknown:,} more of classes that the network does not know"
    return counted(evaluation, text)


def counted(evaluation: Evaluation | MultiEvaluation, exceptions: str) -> str:
    """Returns how many images there were, with a text on some of them, and how quick it was."""
    return (
        f"{evaluation.summary.images:,} images{exceptions}; "
        f"{evaluation.images_per_second:,.1f} images/s, read, decoded and answered."
    )


def class_rows(evaluation: Evaluation, most: int | None = None) -> list[list[str]]:
    """Returns the cells of a table of the classes, the header first.

    Args:
        evaluation: whose classes.
        most: how many; of more, those with the lowest F1. None: all of them.
    """
    rows = confusion.per_class(evaluation.answers)
    if most is not None and len(rows) > most:
        rows = sorted(rows, key=lambda row: row.f1)[:most]
    table = [["class", "images", "precision", "recall", "F1"]]
    for row in rows:
        shares = [percent(share) for share in (row.precision, row.recall, row.f1)]
        table.append([printable(evaluation.matching.names[row.number]), f"{row.images:,}", *shares])
    return table


def _classes(evaluation):
    found = aligned(class_rows(evaluation, MOST_CLASSES))
    count = len(confusion.per_class(evaluation.answers))
    if count > MOST_CLASSES:
        found.append(f"These {MOST_CLASSES} of {count:,} have the lowest F1; --out has all.")
    return found


def confusion_rows(evaluation: Evaluation) -> list[list[str]]:
    """Returns the cells of a table of the most frequent confusions, the header first."""
    names, answers = evaluation.matching.names, evaluation.answers
    images = {row.number: row.images for row in confusion.per_class(answers)}
    table = [["most frequent confusions", "taken for", "images", "of the class"]]
    for label, answer, count in confusion.confusions(answers, CONFUSIONS):
        share = percent(count / images[label])
        table.append([printable(names[label]), printable(names[answer]), f"{count:,}", share])
    return table


def _confusions(evaluation):
    table = confusion_rows(evaluation)
    if len(table) == 1:
        return ["No image was taken for another class."]
    return aligned(table)
