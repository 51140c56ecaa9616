"""Which pictures show how good the answers are?"""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from effnet_tf import plots
from effnet_tf.data import crops
from effnet_tf.errors import printable
from effnet_tf.inference import confusion, metrics, multi
from effnet_tf.inference.evaluating import Evaluation, MultiEvaluation

MOST_CLASSES = 40  # in the picture of confusions
MOST_MISTAKES = 24
_NAMED = dict(parse_math=False, usetex=False)  # a name is no formula


def confusions(evaluation: Evaluation, path: str) -> bool:
    """Draws which class was taken for which; of many classes the most confused.

    Args:
        evaluation: with at least one usable image.
        path: of the PNG file.

    Returns:
        Whether it was drawn.
    """
    rows = confusion.per_class(evaluation.answers)
    numbers, title = [row.number for row in rows], "Images of a class (row) by the answer (column)"
    if len(rows) > MOST_CLASSES:
        numbers = _most_confused(evaluation)
        title += f"; the {len(numbers)} most confused of {len(rows):,} classes"
    if not numbers:
        return False
    counts = confusion.matrix(evaluation.answers, numbers)
    names = [printable(evaluation.matching.names[number])[:24] for number in numbers]
    draw = functools.partial(_confusions, counts, names, title)
    side = 3.5 + 0.3 * len(numbers)
    return plots.picture(path, draw, 1, 1, (side + 1, side))


def _most_confused(evaluation):
    """The classes that are in the most frequent confusions, by number."""
    chosen: set[int] = set()
    for label, answer, _ in confusion.confusions(evaluation.answers):
        if len(chosen | {label, answer}) > MOST_CLASSES:
            break
        chosen |= {label, answer}
    return sorted(chosen)


def _confusions(counts, names, title, canvas, axes):
    (axis,) = axes
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8, **_NAMED)
    axis.set_yticks(range(len(names)), names, fontsize=8, **_NAMED)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "black"
            if shares[row, column] > 0.5:
                colour = "white"
            axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    axis.set(xlabel="answer", ylabel="class")
    axis.set_title(title, fontsize=10)
    canvas.colorbar(image, ax=axis, shrink=0.7, label="share of the class's images")


def calibration(evaluation: Evaluation, path: str) -> bool:
    """Draws how often answers are right that are so and so sure; returns whether it was drawn."""
    answers = evaluation.answers
    usable = answers.usable
    bins = metrics.calibration(answers.sureness[usable, 0], metrics.hits(answers)[usable])
    draw = functools.partial(_calibration, bins, evaluation.summary.calibration_error.value)
    return plots.picture(path, draw, 2, 1, (9, 4))


def _calibration(bins, error, canvas, axes):
    rates, histogram = axes
    width = 1 / len(bins)
    middles = (np.arange(len(bins)) + 0.5) * width
    counts = np.maximum(bins[:, 0], 1)
    there = bins[:, 0] > 0
    rates.bar(middles[there], (bins[:, 2] / counts)[there], width * 0.9, color="C0", label="right")
    rates.plot(
        (bins[:, 1] / counts)[there],
        (bins[:, 2] / counts)[there],
        "C1o",
        ms=4,
        label="mean of a bin",
    )
    rates.plot([0, 1], [0, 1], "k--", lw=1, label="as sure as right")
    rates.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="probability of the answer", ylabel="share that is right"
    )
    rates.set_title(f"expected calibration error {100 * error:.2f} %", fontsize=10)
    rates.legend(frameon=False, fontsize=8, loc="upper left")
    histogram.bar(middles, bins[:, 0], width * 0.9, color="C7")
    histogram.set(xlim=(0, 1), xlabel="probability of the answer", ylabel="images")


def mistakes(evaluation: Evaluation | MultiEvaluation, path: str) -> bool:
    """Draws the wrong answers that are surest, with the names of their files.

    Returns:
        Whether it was drawn; not where nothing is wrong.
    """
    if isinstance(evaluation, MultiEvaluation):
        chosen, caption = multi.surest_mistakes(evaluation.answers), _caption_of_several
    else:
        chosen, caption = surest_mistakes(evaluation), _caption
    chosen = chosen[:MOST_MISTAKES]
    images = [_image(evaluation, number) for number in chosen]
    captions = [caption(evaluation, number) for number in chosen]
    return plots.predictions(images, captions, [False] * len(chosen), path)


def surest_mistakes(evaluation: Evaluation) -> list[int]:
    """Returns the numbers of the images whose answer is wrong, the surest answer first."""
    answers = evaluation.answers
    wrong = np.flatnonzero(answers.usable & ~metrics.hits(answers))
    order = np.argsort(-answers.sureness[wrong, 0], kind="stable")
    return wrong[order].tolist()


def _image(evaluation, number):
    """What the network saw of an image: (S, S, 3) uint8."""
    records = evaluation.source.held_out
    encoded, _ = records.load(np.int64(number), "")
    crop = crops.EvaluationCrop.of_recipe(evaluation.subject.recipe, evaluation.subject.size[0])
    return crop.rounded(encoded).numpy()


def _caption(evaluation, number):
    answers, names = evaluation.answers, evaluation.matching.names
    answer, label = names[answers.best[number, 0]], names[answers.labels[number]]
    file = os.path.basename(evaluation.name(number))
    return f"{answer} {answers.sureness[number, 0]:.0%}, is {label}: {file}"


def _caption_of_several(evaluation, number):
    answers = evaluation.answers
    chances = [
        f"{name} {chance:.0%}" for name, chance in zip(answers.names, answers.chances[number])
    ]
    given = _together(chances, answers.given[number])
    there = _together(answers.names, answers.present[number])
    return f"{given}; is {there}: {os.path.basename(evaluation.name(number))}"


def _together(texts, chosen):
    """The texts of some classes in a line."""
    return ", ".join(text for text, is_one in zip(texts, chosen) if is_one) or "nothing"


def classes(evaluation: MultiEvaluation, path: str) -> bool:
    """Draws AP and F1 of the classes; of many those of the lowest AP; returns whether it did."""
    rows = [row for row in evaluation.classes if row.images]
    title = "AP and F1 of the classes"
    if len(rows) > MOST_CLASSES:
        title += f"; the {MOST_CLASSES} lowest of {len(rows):,}"
        rows = sorted(rows, key=lambda row: row.average_precision)[:MOST_CLASSES]
    if not rows:
        return False
    draw = functools.partial(_classes, rows, title)
    return plots.picture(path, draw, 1, 1, (7, 1.5 + 0.25 * len(rows)))


def _classes(rows, title, canvas, axes):
    (axis,) = axes
    places = np.arange(len(rows))
    precisions = [100 * row.average_precision for row in rows]
    axis.barh(places, precisions, 0.7, color="C0", alpha=0.5, label="AP")
    axis.plot([100 * row.f1 for row in rows], places, "C1o", ms=5, label="F1 at the threshold")
    names = [f"{printable(row.name)[:24]} ({row.images:,})" for row in rows]
    axis.set_yticks(places, names, fontsize=8, **_NAMED)
    axis.invert_yaxis()
    axis.set(xlim=(0, 101), xlabel="%", title=title)
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def all_of(evaluation: Evaluation | MultiEvaluation, folder: str) -> Sequence[str]:
    """Draws all pictures into a folder; returns the names of those that were drawn."""
    makers: dict[str, Callable[[Any, str], bool]]
    makers = {"confusion.png": confusions, "mistakes.png": mistakes, "calibration.png": calibration}
    if isinstance(evaluation, MultiEvaluation):
        makers = {"classes.png": classes, "mistakes.png": mistakes}
    if not evaluation.answers.usable.any():
        return []
    return [name for name, make in makers.items() if make(evaluation, os.path.join(folder, name))]
