"""Which evaluation of a run is the best, and is it still getting better?

Functions of the rows of metrics.jsonl alone, so that a resumed run decides the same.
"""

from collections.abc import Sequence

from effnet_tf.runs import checkpoints

MAP = "eval_map"  # in the rows of runs whose images may have several names


def is_better(row: dict, other: dict) -> bool:
    """Whether one epoch was evaluated better than another: accuracy first, then the loss.

    Where an image may have several names, mAP takes the place of the accuracy.
    """
    return _quality(row) > _quality(other)


def _quality(row):
    return row.get(MAP, row["eval_accuracy"]), -row["eval_loss"]


def told(row: dict, model: str = "") -> str:
    """Returns how good an epoch was, in a few words: "91.67%", or "mAP 71.20%".

    Args:
        row: of metrics.jsonl.
        model: "raw" or "ema"; by default that of the plain names.
    """
    suffix = ""
    if model:
        suffix = f"_{model}"
    if MAP in row:
        return f"mAP {row[MAP + suffix]:.2%}"
    return f"{row['eval_accuracy' + suffix]:.2%}"


def best(rows: Sequence[dict]) -> dict:
    """Returns the best row; of equal ones the first."""
    return max(rows, key=_quality)


def epochs_since_best(rows: Sequence[dict], begun: int = 0) -> int:
    """Returns how many rows at the end are no better than the best before them.

    Args:
        rows: of metrics.jsonl.
        begun: the step at which the run was last extended: rows up to it are not counted.
    """
    if not rows:
        return 0
    since = max(best(rows)["step"], begun)
    return sum(row["step"] > since for row in rows)


def step_of_best(folder: str) -> int | None:
    """Returns the step of the checkpoint in a run's folder for the best one; None without it."""
    kept = checkpoints.committed(folder)
    if not kept:
        return None
    return checkpoints.step_of(kept[-1])


def of_images(row: dict) -> str:
    """Returns the same as a clause: "91.67% of 360 held-out images right"."""
    text = f"{told(row)} of {row['eval_images']:,} held-out images"
    if MAP in row:
        return text
    return f"{text} right"
