"""How is an evaluation of several names per image told, in lines, numbers and a table of images?"""

import csv
import dataclasses
import io
from typing import Any

from effnet_tf.columns import aligned
from effnet_tf.errors import printable
from effnet_tf.inference import telling
from effnet_tf.inference.evaluating import MultiEvaluation
from effnet_tf.inference.multi import MultiSummary

HOW = (
    "Intervals are of 95 %: Wilson's for images with all names right, the normal one for the loss, "
    "of a bootstrap over the images for the others."
)
CHOSEN = (
    "A name is given from the threshold of its class on. Thresholds were chosen for the best F1 on "
    "the images held out in training: there, precision, recall and F1 are a little too high."
)
_TITLES = {
    "map": "mAP, mean over the classes",
    "map_micro": "AP of all names in one ranking",
    "f1_macro": "F1, mean over the classes",
    "f1": "F1 of all names",
    "precision": "precision of all names",
    "recall": "recall of all names",
    "all_right": "images with all names right",
}


def lines(evaluation: MultiEvaluation) -> list[str]:
    """Returns all that is printed of an evaluation."""
    found = ["", *aligned(number_rows(evaluation.summary)), "", HOW, CHOSEN, counts(evaluation)]
    found += ["", *aligned(class_rows(evaluation, telling.MOST_CLASSES))]
    count = len(evaluation.answers.names)
    if count > telling.MOST_CLASSES:
        found.append(
            f"These {telling.MOST_CLASSES} of {count:,} have the lowest AP; --out has all."
        )
    return found


def number_rows(summary: MultiSummary) -> list[list[str]]:
    """Returns the cells of a table of all numbers with their intervals, the header first."""
    rows = [["", "", "from", "to"]]
    for name, title in _TITLES.items():
        each = getattr(summary, name)
        rows.append([title, *map(telling.percent, (each.value, each.low, each.high))])
    loss = summary.loss
    rows.append(["loss", *map(telling.number, (loss.value, loss.low, loss.high))])
    return rows


def counts(evaluation: MultiEvaluation) -> str:
    """Returns what was counted, what was not, and how quick it was."""
    summary, text = evaluation.summary, ""
    if summary.bad:
        text = (
            f", {summary.bad:,} of which cannot be used: they have not all names right, and count "
            "in no other number"
        )
    return telling.counted(evaluation, text)


def class_rows(evaluation: MultiEvaluation, most: int | None = None) -> list[list[str]]:
    """Returns the cells of a table of the classes, the header first.

    Args:
        evaluation: whose classes.
        most: how many; of more, those with the lowest AP. None: all of them.
    """
    rows = evaluation.classes
    if most is not None and len(rows) > most:
        rows = sorted(rows, key=lambda row: row.average_precision)[:most]
    table = [["class", "images", "AP", "threshold", "precision", "recall", "F1"]]
    for row in rows:
        shares = [telling.percent(share) for share in (row.precision, row.recall, row.f1)]
        precision = telling.percent(row.average_precision)
        cells = [printable(row.name), f"{row.images:,}", precision, f"{row.threshold:.3f}"]
        table.append([*cells, *shares])
    return table


def figures(evaluation: MultiEvaluation) -> dict[str, Any]:
    """Returns what report.json says of the numbers: None where there is none."""
    return {
        **{"labels": "multi", "thresholds": CHOSEN, "intervals": HOW},
        **telling.estimates(evaluation.summary, (*_TITLES, "loss")),
        "classes": [_class(row) for row in evaluation.classes],
    }


def _class(row):
    return {name: telling.known(value) for name, value in dataclasses.asdict(row).items()}


def table(evaluation: MultiEvaluation) -> str:
    """Returns predictions.csv: a row for each image, with the probability of every class."""
    answers, text = evaluation.answers, io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "labels", "given", "right", *answers.names, "fault"])
    faults = {entry["key"]: entry["reason"] for entry in evaluation.source.bad.entries}
    for number, (there, given) in enumerate(zip(answers.present, answers.given)):
        key = evaluation.name(number)
        if not answers.usable[number]:
            blank = [""] * (3 + len(answers.names))
            writer.writerow([key, *blank, faults.get(key, "")])
            continue
        both = (_joined(answers.names, which) for which in (there, given))
        chances = [f"{chance:.6f}" for chance in answers.chances[number]]
        writer.writerow([key, *both, int((there == given).all()), *chances, ""])
    return text.getvalue()


def _joined(names, which):
    """The names of some classes, as the cell of a table has them."""
    return "|".join(name for name, is_one in zip(names, which) if is_one)
