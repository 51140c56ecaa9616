"""What does an evaluation leave in a folder, for programs and for people?

report.json has the numbers, predictions.csv a row for each image, report.html all of it on one page
that needs nothing else: the pictures are inside.
"""

import csv
import io
import json
import os
from typing import Any

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError
from effnet_tf.inference import confusion, multi_telling, page, pictures, telling
from effnet_tf.inference.evaluating import Evaluation, MultiEvaluation

PROGRAM = "effnet_tf evaluate"  # in report.json, by which a folder is known to be ours


def check_folder(folder: str) -> None:
    """Refuses a folder that holds anything but an earlier report.

    Raises:
        InputError: it is a file, or has files that are not of a report of ours.
    """
    storage.check_place(folder, "--out")
    if storage.exists(folder) and not storage.is_folder(folder):
        raise InputError(f"--out '{folder}' is a file; it must be a folder.")
    if storage.names(folder) and not _is_ours(os.path.join(folder, "report.json")):
        raise InputError(
            f"--out '{folder}' has files of its own: give a new folder, or that of an earlier "
            "report, which is replaced."
        )


def _is_ours(path):
    if not storage.exists(path):
        return False
    try:
        return storage.parse_json(storage.read_bytes(path, 1 << 28))["program"] == PROGRAM
    except (ValueError, KeyError, TypeError):
        return False


def write(evaluation: Evaluation | MultiEvaluation, folder: str) -> list[str]:
    """Writes a report into a folder, each file whole or not at all.

    Args:
        evaluation: what is reported.
        folder: that `check_folder` has let pass; it is made if it is not there.

    Returns:
        The names of what was written.

    Raises:
        SaveError: a file cannot be written.
    """
    with storage.writing(folder):
        tf.io.gfile.makedirs(folder)
    # First of all, so that a folder is known to be ours, whatever happens.
    texts = {"report.json": json.dumps(figures(evaluation), indent=2) + "\n"}
    texts["predictions.csv"] = table(evaluation)
    for name, text in texts.items():
        content = text.encode("utf-8", "surrogateescape")
        storage.write_bytes(os.path.join(folder, name), content)
    drawn = pictures.all_of(evaluation, folder)
    text = page.of(evaluation, folder, drawn)
    storage.write_bytes(os.path.join(folder, "report.html"), text.encode("utf-8", "replace"))
    return [*texts, *drawn, "report.html"]


def figures(evaluation: Evaluation | MultiEvaluation) -> dict[str, Any]:
    """Returns what report.json says: numbers, None where there is none."""
    summary = evaluation.summary
    found: dict[str, Any] = {
        "program": PROGRAM,
        "network": evaluation.subject.name,
        "pixels": evaluation.subject.size[0],
        "images": summary.images,
        "bad_images": summary.bad,
        "data": evaluation.source.name,
        "notes": list(evaluation.matching.notes),
        "images_per_second": evaluation.images_per_second,
    }
    if isinstance(evaluation, MultiEvaluation):
        found |= multi_telling.figures(evaluation)
    else:
        found |= _of_one_class(evaluation)
    found["bad"] = [
        {"image": entry["key"], "reason": entry["reason"]}
        for entry in evaluation.source.bad.entries
    ]
    return found


def _of_one_class(evaluation):
    """What report.json says where an image has one class."""
    summary, names = evaluation.summary, evaluation.matching.names
    found = {"unknown_images": summary.unknown, "intervals": telling.HOW}
    names_of_numbers = ("top1", "top5", "loss", "class_accuracy", "calibration_error")
    found |= telling.estimates(summary, names_of_numbers)
    found["classes"] = [_class(row, names) for row in confusion.per_class(evaluation.answers)]
    found["confusions"] = [
        {"class": names[label], "answer": names[answer], "images": count}
        for label, answer, count in confusion.confusions(evaluation.answers, 100)
    ]
    return found


def _class(row, names):
    return {
        "class": names[row.number],
        "images": row.images,
        "answered": row.answered,
        "right": row.right,
        "precision": telling.known(row.precision),
        "recall": telling.known(row.recall),
        "f1": telling.known(row.f1),
    }


def table(evaluation: Evaluation | MultiEvaluation) -> str:
    """Returns predictions.csv: a row for each image, in their order."""
    if isinstance(evaluation, MultiEvaluation):
        return multi_telling.table(evaluation)
    return _table_of_one_class(evaluation)


def _table_of_one_class(evaluation):
    answers, names = evaluation.answers, evaluation.matching.names
    labels, best, sureness, losses = answers.labels, answers.best, answers.sureness, answers.losses
    count = best.shape[1]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    ranked = []
    for rank in range(1, count + 1):
        ranked += [f"answer_{rank}", f"probability_{rank}"]
    writer.writerow(["image", "class", "right", "loss", *ranked, "fault"])
    faults = {entry["key"]: entry["reason"] for entry in evaluation.source.bad.entries}
    own = evaluation.source.class_names
    for number, label in enumerate(evaluation.own_labels.tolist()):
        key = evaluation.name(number)
        if label < 0:
            writer.writerow([key, "", "", "", *[""] * (2 * count), faults.get(key, "")])
            continue
        cells = []
        for place, chance in zip(best[number].tolist(), sureness[number].tolist()):
            cells += [names[place], f"{chance:.6f}"]
        right, loss = "", ""
        if labels[number] >= 0:
            right = str(int(best[number, 0] == labels[number]))
            loss = f"{losses[number]:.6f}"
        writer.writerow([key, own[label], right, loss, *cells, ""])
    return text.getvalue()
