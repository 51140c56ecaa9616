"""How do counts, shapes and what a file takes look as lines of `inspect`?"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from effnet_tf.errors import InputError


def taken(layout: Callable[[], Any]) -> str:
    """Returns what a file takes, or why that is not images."""
    try:
        return str(layout())
    except InputError as error:
        return str(error)


def sides(numbers: Iterable[int]) -> str:
    """Returns a shape such as "(any, 224, 224, 3)", any where a number is negative."""
    return f"({', '.join(map(_side, numbers))})"


def _side(number):
    if number < 0:
        return "any"
    return str(number)


def counted(counts: Mapping[str, int]) -> list[str]:
    """Returns a line for each name, the most frequent first, and one for all of them."""
    width = max([5, *map(len, counts)])
    rows = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        *(f"{name:<{width}} {count:6}" for name, count in rows),
        f"{'total':<{width}} {sum(counts.values()):6}",
    ]
