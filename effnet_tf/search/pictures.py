"""How does accuracy change along each axis, where the cost stays the same?

The pictures of the paper's figures 3, 4 and 8 in one: every network has the same multiply-adds, so
what is right of the middle on one axis has less of another.
"""

import io
from collections.abc import Sequence
from typing import NamedTuple

from effnet_tf import extras, local_files
from effnet_tf.errors import InputError
from effnet_tf.search.candidates import AXES, Candidate
from effnet_tf.search.statistics import Interval

PURPOSE = "Drawing the candidates of a search"


class Point(NamedTuple):
    """What is drawn of a candidate.

    Attributes:
        candidate: the network.
        accuracy: over its seeds, shares in [0, 1].
        seeds: how many.
    """

    candidate: Candidate
    accuracy: Interval
    seeds: int


def require() -> None:
    """Refuses at the door what matplotlib is missing for.

    Raises:
        MissingPackage: it is not installed, or broken.
    """
    extras.load("matplotlib.figure", PURPOSE)


def draw(points: Sequence[Point], base: Interval | None, title: str, path: str) -> None:
    """Draws accuracy over the factor on each axis, of networks of one cost.

    Args:
        points: at least one.
        base: accuracy of the base, at a fraction of the cost; None: not drawn.
        title: above the picture.
        path: of the PNG file.

    Raises:
        MissingPackage: matplotlib is not installed, or broken.
        InputError: the path does not end with .png.
        SaveError: it cannot be written.
    """
    if not path.endswith(".png"):
        raise InputError(f"The picture must end with .png, and not be '{path}'.")
    figure = extras.load("matplotlib.figure", PURPOSE)
    canvas = figure.Figure(figsize=(11, 4.2), layout="constrained")
    panels = canvas.subplots(1, len(AXES), sharey=True)
    for panel, axis in zip(panels, AXES):
        _draw_axis(panel, axis, points)
        if base is not None:
            label = "base, at a fraction of the cost"
            panel.axhline(100 * base.mean, color="C7", ls=":", lw=1.2, label=label)
    panels[0].set_ylabel("accuracy on held-out images (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9)
    canvas.suptitle(title.replace("$", r"\$"))
    content = io.BytesIO()
    canvas.savefig(content, format="png", dpi=110)
    local_files.write(path, content.getvalue())


# How networks are told apart, in words and in colour.
KINDS = (
    ("several axes", "C0", lambda point: len(point.candidate.axes) > 1),
    ("one axis", "C1", lambda point: len(point.candidate.axes) == 1),
)


def _draw_axis(panel, axis, points):
    for label, colour, belongs in KINDS:
        chosen = [point for point in points if belongs(point)]
        if not chosen:
            continue
        heights = [100 * point.accuracy.mean for point in chosen]
        bars = [
            [100 * (point.accuracy.mean - point.accuracy.low) for point in chosen],
            [100 * (point.accuracy.high - point.accuracy.mean) for point in chosen],
        ]
        panel.errorbar(
            [getattr(point.candidate, axis) for point in chosen],
            heights,
            bars,
            fmt="o",
            color=colour,
            ms=5,
            elinewidth=0.8,
            alpha=0.8,
            label=label,
        )
    best = max(points, key=lambda point: (point.seeds, point.accuracy.mean))
    place = getattr(best.candidate, axis), 100 * best.accuracy.mean
    panel.plot(*place, "*", color="crimson", ms=14, zorder=3, label="the best")
    panel.set_xlabel(f"factor on the {axis}, at equal multiply-adds")
    panel.grid(alpha=0.3)
