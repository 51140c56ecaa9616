"""How are plans, and the family beside the paper's formula, told to a person?"""

from collections.abc import Sequence

from effnet_tf.columns import aligned
from effnet_tf.scaling.planning import Plan
from effnet_tf.scaling.strategies import STRATEGIES
from effnet_tf.scaling.targets import TARGETS, Targets, figures_of, shown
from effnet_tf.variants import VARIANTS, CompoundScaling, cost

# The paper lists no phi for its networks. These are the halves nearest to what their three
# coefficients say, each on its own (B5: 4.3 by its depth, 4.9 by its width, 5.1 by its pixels).
PHIS = {"b0": 0, "b1": 0.5, "b2": 1, "b3": 2, "b4": 3.5, "b5": 5, "b6": 6, "b7": 7, "b8": 8}


def describe_targets(targets: Targets, batch: int, dtype: str, remat: str) -> str:
    """Returns a line that says what was asked for."""
    wanted = []
    for target in targets.given():
        text = f"{target.title} at most {shown(targets.most(target))}{target.unit}"
        if target.name == "train_memory":
            text += f" for {batch:,} images in {dtype}"
            if remat != "none":
                text += f" with {remat}s computed again"
        wanted.append(text)
    return f"Targets: {'; '.join(wanted)}."


def describe_plans(plans: Sequence[Plan], targets: Targets) -> list[str]:
    """Returns the lines of a table of plans: where they are, what they cost, what is left."""
    header = ["network", "strategy", "at", "depth", "width", "pixels"]
    for target in TARGETS:
        if _is_shown(target, plans):
            header.append(target.title)
        if target in targets.given():
            header.append("left")
    return aligned([header, *(_cells(plan, plans) for plan in plans)])


def _is_shown(target, plans):
    return target.name != "latency_ms" or plans[0].latency_ms is not None


def _cells(plan, plans):
    row = plan.variant
    where = "-"
    if plan.position is not None:
        where = f"{STRATEGIES[plan.strategy].axis} {plan.position:.3f}"
    cells = [row.name, plan.strategy, where]
    cells += [f"{row.depth_coefficient:.3f}", f"{row.width_coefficient:.3f}", f"{row.resolution}"]
    figures = figures_of(plan.cost, plan.latency_ms or 0.0)
    for target in TARGETS:
        if _is_shown(target, plans):
            cells.append(f"{shown(figures[target.name])}{target.unit}")
        if target.name in plan.slack:
            cells.append(f"{shown(plan.slack[target.name])}{target.unit}")
    return cells


def describe_family() -> list[str]:
    """Returns the lines of a table of B0 to B8: the paper's formula, and what was released."""
    scaling = CompoundScaling()
    header = ["network", "phi", "depth: formula", "released", "width: formula", "released"]
    header += ["pixels: formula", "released", "parameters", "multiply-adds", "formula's"]
    rows = [header]
    for name, phi in PHIS.items():
        row, formula = VARIANTS[name], scaling.variant(phi)
        exact = cost(row)
        rows.append(
            [
                name,
                f"{phi:g}",
                f"{formula.depth_coefficient:.2f}",
                f"{row.depth_coefficient:.1f}",
                f"{formula.width_coefficient:.2f}",
                f"{row.width_coefficient:.1f}",
                f"{VARIANTS['b0'].resolution * scaling.gamma**phi:.1f}",
                f"{row.resolution}",
                f"{exact.trainable_params:,}",
                f"{exact.multiply_adds:,}",
                f"{cost(formula).multiply_adds:,}",
            ]
        )
    notes = (
        "phi is nowhere published: it is the half nearest to the released coefficients. Parameters "
        "are those that training changes; the last column is the network of the formula."
    )
    return [*aligned(rows), notes]
