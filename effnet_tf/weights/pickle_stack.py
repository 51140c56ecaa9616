"""What do the instructions of a pickle do that call nothing: stack, marks, memo, containers?

Nothing here recurses into what a pickle made, hashes anything but str, or copies what may be used
again. So deep nesting, cycles, colliding keys and repetition cost no more than their bytes.
Standard library only.
"""

from typing import Any


class Inert:
    """What a pickle would have made by a call; nothing was called.

    Attributes:
        name: of what it would have called.
        entries: {str: value}, what the object would hold, as attributes or as items.
    """

    def __init__(self, name: str):
        self.name = name
        self.entries: dict[str, object] = {}


class Stack:
    """The stack, and what lies on it; `argument` is what an instruction brings."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets everything."""
        self._stack: list = []
        self._below: list[list] = []  # the stacks below each mark
        self._memo: dict[int, object] = {}

    def push(self, value: object) -> None:
        """Puts a value on top."""
        self._stack.append(value)

    def pop(self) -> Any:
        """Takes the value from the top."""
        return self._stack.pop()

    def top(self) -> Any:
        """Returns the value on top, which stays there."""
        return self._stack[-1]

    def since_mark(self) -> list:
        """Takes all values down to the last mark, and the mark."""
        found = self._stack
        self._stack = self._below.pop()
        return found

    def entries(self) -> dict[str, object]:
        """Returns the dictionary of the object on top, which may be given items or a state."""
        value = self.top()
        if isinstance(value, Inert):
            return value.entries
        if isinstance(value, dict):
            return value
        raise TypeError

    # --- instructions ------------------------------------------------------------------------

    def _nothing(self, argument):
        """The version, and the length of a part."""

    def _mark(self, argument):
        self._below.append(self._stack)
        self._stack = []

    def _pop(self, argument):
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def _pop_mark(self, argument):
        self.since_mark()

    def _put(self, argument):
        self._memo[argument] = self._stack[-1]

    def _memoize(self, argument):
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, argument):
        self.push(self._memo[argument])

    def _tuple(self, count):
        last = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(last)))

    def _long_tuple(self, argument):
        self.push(tuple(self.since_mark()))

    def _empty_list(self, argument):
        self.push([])

    def _empty_dict(self, argument):
        self.push({})

    def _empty_set(self, argument):
        self.push(Inert("builtins.set"))

    def _frozen_set(self, argument):
        self.since_mark()
        self.push(Inert("builtins.frozenset"))

    def _append(self, argument):
        self._extend([self.pop()])

    def _appends(self, argument):
        self._extend(self.since_mark())

    def _extend(self, items):
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)
        elif not isinstance(self._stack[-1], Inert):
            raise TypeError

    def _set_item(self, argument):
        value = self.pop()
        key = self.pop()
        self.entries().update(_named([key, value]))

    def _set_items(self, argument):
        items = self.since_mark()
        self.entries().update(_named(items))


def _named(items):
    """Of keys and values in turn, those whose keys are str; nothing else names a tensor."""
    if len(items) % 2:
        raise TypeError
    return {key: value for key, value in zip(items[::2], items[1::2]) if isinstance(key, str)}


# The instructions by their names in pickletools, without those of text pickles (protocol 0), in
# which PyTorch never wrote. These push what they bring:
ARGUMENT = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
# These push one and the same value:
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# These gather so many values:
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
STEPS = {
    "PROTO": Stack._nothing,
    "FRAME": Stack._nothing,
    "MARK": Stack._mark,
    "POP": Stack._pop,
    "POP_MARK": Stack._pop_mark,
    "BINPUT": Stack._put,
    "LONG_BINPUT": Stack._put,
    "MEMOIZE": Stack._memoize,
    "BINGET": Stack._get,
    "LONG_BINGET": Stack._get,
    "TUPLE": Stack._long_tuple,
    "EMPTY_LIST": Stack._empty_list,
    "EMPTY_DICT": Stack._empty_dict,
    "EMPTY_SET": Stack._empty_set,
    "FROZENSET": Stack._frozen_set,
    "APPEND": Stack._append,
    "APPENDS": Stack._appends,
    "ADDITEMS": Stack._appends,
    "SETITEM": Stack._set_item,
    "SETITEMS": Stack._set_items,
}
