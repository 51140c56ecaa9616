"""How is one hyper-parameter described, and which values may it have?"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from effnet_tf import errors


def field(
    default: object,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] | None = None,
    option: bool = True,
) -> Any:
    """Describes one hyper-parameter of a frozen dataclass.

    Args:
        default: its value where none is given.
        text: what it is, in which unit, and where the default comes from.
        low: the smallest legal number; None: no limit.
        high: the largest legal number; None: no limit.
        choices: the only legal texts, and the default; None: any.
        option: whether it is an option of the command line; else the program itself sets it.

    Returns:
        A `dataclasses.field`; Any, as `dataclasses.field` itself is for a type checker.
    """
    limits = dict(help=text, low=low, high=high, choices=choices, option=option)
    return dataclasses.field(default=default, metadata=limits)


def check(described: dataclasses.Field, value: Any) -> None:
    """Raises InputError unless a value is legal for a field that `field` described."""
    name, limits = described.name, described.metadata
    choices = limits["choices"]
    if choices and value not in (described.default, *choices):
        raise errors.InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    if value is not None and not isinstance(value, str):
        _check_number(name, value, limits["low"], limits["high"])


def _check_number(name, value, low, high):
    if not math.isfinite(value):
        raise errors.InputError(f"{name} is {value}; it must be a finite number.")
    too_low = low is not None and value < low
    too_high = high is not None and value > high
    if not too_low and not too_high:
        return
    if high is None:
        raise errors.InputError(f"{name} is {value}; it must be at least {low}.")
    raise errors.InputError(f"{name} is {value}; it must be between {low} and {high}.")
