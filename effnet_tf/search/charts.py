"""How does a search look: accuracy over cost with the Pareto front, and its best over time?"""

import io
from collections.abc import Sequence

from effnet_tf import extras, local_files
from effnet_tf.scaling.targets import shown
from effnet_tf.search.results import on_the_front
from effnet_tf.search.rewards import COSTS
from effnet_tf.search.studies import Finished

PURPOSE = "Drawing a search"


def require() -> None:
    """Refuses at the door what matplotlib is missing for.

    Raises:
        MissingPackage: it is not installed, or broken.
    """
    extras.load("matplotlib.figure", PURPOSE)


def draw(finished: Sequence[Finished], cost: str, target: float | None, path: str) -> None:
    """Draws a search: every trial by accuracy and cost, with the front; the best value so far.

    Args:
        finished: at least one.
        cost: name in `COSTS`.
        target: of the cost, None for none.
        path: of the PNG file.

    Raises:
        MissingPackage: matplotlib is not installed, or broken.
        SaveError: the file cannot be written.
    """
    figure = extras.load("matplotlib.figure", PURPOSE)
    canvas = figure.Figure(figsize=(11, 4.6), layout="constrained")
    left, right = canvas.subplots(1, 2)
    _draw_front(left, finished, cost, target)
    _draw_best(right, finished, target)
    content = io.BytesIO()
    canvas.savefig(content, format="png", dpi=110)
    local_files.write(path, content.getvalue())


def _draw_front(axis, finished, cost, target):
    axis.scatter(
        [trial.about[cost] for trial in finished],
        [100 * trial.about["accuracy"] for trial in finished],
        c=[trial.number for trial in finished],
        cmap="viridis",
        s=22,
    )
    found = on_the_front(finished, cost)
    places = [trial.about[cost] for trial in found]
    heights = [100 * trial.about["accuracy"] for trial in found]
    axis.step(places, heights, where="post", color="C3", lw=1.2, label="Pareto front")
    for trial, place, height in zip(found, places, heights):
        label = str(trial.number)
        axis.annotate(label, (place, height), (3, 4), textcoords="offset points", fontsize=7)
    if target is not None:
        axis.axvline(target, color="C7", ls="--", lw=1, label="target")
    axis.set(
        xscale="log",
        xlabel=COSTS[cost],
        ylabel="accuracy on the validation images (%)",
        title="Every trial, late ones light; its number on the front",
    )
    _label_costs(axis)
    axis.grid(alpha=0.3, which="both")
    axis.legend(fontsize=8)


def _label_costs(axis):
    """Writes costs as the tables do, 200 k instead of 2 x 10^5."""
    low, high = axis.get_xlim()
    axis.xaxis.set_major_formatter(_of_cost)
    if high < 10 * low:  # there is room between the powers of ten
        axis.xaxis.set_minor_formatter(_of_cost)
    axis.tick_params(axis="x", which="both", labelsize=7)


def _of_cost(cost, place):
    return shown(cost).replace(".0 ", " ")


def _draw_best(axis, finished, target):
    values = [trial.values[0] for trial in finished]
    label = "reward"
    if target is None:
        label = "accuracy"
    places = range(1, len(values) + 1)
    axis.plot(places, values, "C7.", ms=5, label="of each trial")
    axis.step(places, best_so_far(values), "C0", where="post", label="best so far")
    axis.set(xlabel="finished trials", ylabel=label, title="The best so far")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)  # where it hides the fewest trials


def best_so_far(values: Sequence[float]) -> list[float]:
    """Returns of each place the greatest value up to it."""
    found: list[float] = []
    for value in values:
        found.append(max(value, found[-1]) if found else value)
    return found
