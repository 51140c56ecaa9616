"""What does a condition such as "<6M" mean?"""

import dataclasses
import operator
from collections.abc import Callable, Iterable, Mapping

from effnet_tf.errors import InputError, nearest
from effnet_tf.scaling.targets import parse_amount

_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "": operator.le,
}


@dataclasses.dataclass(frozen=True)
class Condition:
    """A limit on one figure.

    Attributes:
        sign: one of <=, >=, <, >, = or "", which is "at most".
        limit: the number.
    """

    sign: str
    limit: float

    def holds(self, figure: float | None) -> bool:
        """Whether a figure is as wanted; one that nobody knows is not."""
        return figure is not None and _SIGNS[self.sign](figure, self.limit)


def parse_condition(text: str) -> Condition:
    """Returns the condition that a text such as "<6M" or "600M" is.

    Raises:
        InputError: it is none.
    """
    amount = text.strip().lstrip("<>=")
    sign = text.strip().removesuffix(amount)
    try:
        if sign not in _SIGNS:
            raise InputError(f"'{sign}' is no sign.")
        return Condition(sign, parse_amount(amount))
    except InputError as error:
        raise InputError(
            f"'{text}' is not a condition: give <, <=, >, >= or = and a number, such as <6M."
        ) from error


def read_conditions(texts: Mapping[str, str], known: Iterable[str]) -> dict[str, Condition]:
    """Returns the conditions of {figure: text}.

    Args:
        texts: such as {"params": "<6M"}.
        known: the figures there are.

    Raises:
        InputError: an unknown figure, or a text that is no condition.
    """
    known = list(known)
    for name in texts:
        if name not in known:
            raise InputError(f"There is no figure '{name}'. {nearest(name, known)}")
    return {name: parse_condition(text) for name, text in texts.items()}
