"""How is a variant written to a file, and read from one?

A JSON object with the fields of `Variant`, so that a network that somebody planned or searched is
a file that programs take for a name: `--variant path.json`. Fields that are left out have their
defaults.
"""

import dataclasses
import json
import math
import types
import typing
from typing import Any

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line, nearest, printable
from effnet_tf.variants.rows import Stage, Variant

SUFFIX = ".json"
MOST_BYTES = 1 << 20


def to_json(variant: Variant) -> str:
    """Returns a variant as a JSON object on one line."""
    return json.dumps(dataclasses.asdict(variant))


def from_json(text: str | bytes, where: str = "The variant") -> Variant:
    """Returns the variant in a text of `to_json`.

    Args:
        text: a JSON object.
        where: what the text is, for messages.

    Raises:
        InputError: it is none, lacks a field, has another one, or a value of another type.
    """
    try:
        return _made(Variant, json.loads(text), "")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be used: {first_line(error)}.") from error


def read_variant(path: str) -> Variant:
    """Reads a file that `save_variant` has written, or somebody by hand; errors as `from_json`."""
    where = f"The variant in '{printable(path)}'"
    try:
        content = local_files.read(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{where} cannot be read: {first_line(error)}.") from error
    return from_json(content, where)


def save_variant(variant: Variant, path: str) -> None:
    """Writes a variant to a file of this machine, one field per line, whole or not at all.

    Raises:
        InputError: the name does not end with .json, by which programs know it.
        SaveError: it cannot be written.
    """
    if not path.endswith(SUFFIX):
        raise InputError(f"The file of a variant must end with {SUFFIX}, and not be '{path}'.")
    text = json.dumps(dataclasses.asdict(variant), indent=2) + "\n"
    local_files.write(path, text.encode("utf-8"))


def _made(kind: type, values: Any, inside: str) -> Any:
    """Makes a Variant or Stage of a JSON object; `inside` says where it is."""
    if not isinstance(values, dict):
        raise ValueError(f"{inside or 'it'} is no JSON object")
    hints = typing.get_type_hints(kind)
    for name in values:
        if name not in hints:
            raise ValueError(f"{inside}there is no field '{name}'. {nearest(name, hints)}")
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING and field.name not in values:
            raise ValueError(f"{inside}the field '{field.name}' is missing")
    return kind(
        **{name: _value(value, hints[name], inside + name) for name, value in values.items()}
    )


def _value(value, hint, name):
    """Checks a value of a field against its annotation; lists become tuples."""
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        if not isinstance(value, list) or (inner[-1] is not ... and len(value) != len(inner)):
            raise ValueError(f"{name} must be a list of {_count(inner)}, and is {value!r}")
        return tuple(_value(each, inner[0], f"{name}[{i}]") for i, each in enumerate(value))
    if hint is Stage:
        return _made(Stage, value, f"{name}: ")
    kinds = _kinds(hint)
    is_a_flag = isinstance(value, bool) and bool not in kinds
    if not isinstance(value, kinds) or is_a_flag:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{name} must be of type {names}, and is {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, and is {value!r}")
    return value


def _kinds(hint):
    if hint is float:
        return float, int
    if isinstance(hint, types.UnionType):
        return tuple(kind for each in typing.get_args(hint) for kind in _kinds(each))
    return (hint,)


def _count(inner):
    if inner[-1] is ...:
        return "values"
    return f"{len(inner)} values"
