"""Where does a plan stand among the networks whose accuracy was published?"""

import io
from collections.abc import Sequence
from typing import Any

from effnet_tf import extras, local_files
from effnet_tf.errors import InputError, printable
from effnet_tf.scaling.planning import Plan
from effnet_tf.variants import ACCURACIES, cost

PURPOSE = "Drawing plans"
# What is drawn of ACCURACIES: how B0 to B8, and Lite and EdgeTPU, were trained.
CURVES = {
    "baseline": ("B, baseline", "C7"),
    "autoaugment": ("B, AutoAugment (paper)", "C0"),
    "advprop": ("B, AdvProp", "C2"),
    "noisy-student": ("B and L2, Noisy Student", "C1"),
}

PLAN_COLOURS = ("black", "crimson", "darkgreen", "royalblue", "magenta", "darkorange")
PLAN_LINES = ("--", ":")  # of as many plans as there are colours, and of those after them


def require() -> None:
    """Refuses at the door what matplotlib is missing for.

    Raises:
        MissingPackage: it is not installed, or broken.
    """
    extras.load("matplotlib.figure", PURPOSE)


def draw(plans: Sequence[Plan], path: str) -> None:
    """Draws published top-1 accuracy over multiply-adds, and the plans as vertical lines.

    Args:
        plans: none, for the published networks alone, or some.
        path: of the PNG file.

    Raises:
        MissingPackage: matplotlib is not installed, or broken.
        InputError: the path does not end with .png.
        SaveError: it cannot be written.
    """
    if not path.endswith(".png"):
        raise InputError(f"The picture must end with .png, and not be '{path}'.")
    figure = extras.load("matplotlib.figure", PURPOSE)
    title = "Published networks: accuracy as their publishers say"
    if plans:
        title = "Vertical lines: the planned networks, whose accuracy nobody knows yet"
    canvas = figure.Figure(figsize=(9, 5.4), layout="constrained")
    axis = canvas.subplots()
    _draw_published(axis)
    _draw_plans(axis, plans)
    axis.set(
        xscale="log",
        xlabel="multiply-adds of one image",
        ylabel="top-1 accuracy on ImageNet as published (%)",
        title=title,
    )
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=8)
    content = io.BytesIO()
    canvas.savefig(content, format="png", dpi=110)
    local_files.write(path, content.getvalue())


def _draw_published(axis):
    for weights, (label, colour) in CURVES.items():
        names = list(ACCURACIES[weights])
        places = [cost(name).multiply_adds for name in names]
        heights = [ACCURACIES[weights][name].top1 for name in names]
        axis.plot(places, heights, color=colour, marker="o", ms=4, lw=1, label=label)
        if weights == "autoaugment":
            _name_points(axis, names, places, heights)
    for family, label, colour in (("lite", "Lite", "C4"), ("edgetpu", "EdgeTPU", "C5")):
        rows = {name: row for name, row in ACCURACIES["imagenet"].items() if family in name}
        places = [cost(name).multiply_adds for name in rows]
        heights = [row.top1 for row in rows.values()]
        axis.plot(places, heights, color=colour, marker="s", ms=4, lw=1, label=label)


def _name_points(axis, names, places, heights):
    for name, place, height in zip(names, places, heights):
        axis.annotate(
            name.upper(), (place, height), xytext=(4, -11), textcoords="offset points", fontsize=8
        )


def _draw_plans(axis: Any, plans: Sequence[Plan]) -> None:
    """Draws a line per multiply-adds; plans of the same share one, and their names a label."""
    names: dict[int, list[str]] = {}
    for plan in plans:
        names.setdefault(plan.cost.multiply_adds, []).append(plan.variant.name)
    for number, (place, those) in enumerate(sorted(names.items())):
        turn, index = divmod(number, len(PLAN_COLOURS))
        # Names are the user's: a dollar would begin a formula.
        label = printable(f"{', '.join(those)}: {place / 1e6:,.0f} M").replace("$", r"\$")
        axis.axvline(place, color=PLAN_COLOURS[index], ls=PLAN_LINES[turn % 2], lw=1.2, label=label)
