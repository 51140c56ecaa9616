"""How are tables of a flatbuffer written and read without classes made of its schema?

Fields go by their number in the table, their "slot".
"""

from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table


def put(builder: flatbuffers.Builder, value: Any) -> Any:
    """Writes a string, floats, a table or a list of tables; returns where it lies.

    A table is the tuple of its fields in the schema's order: None where absent, an int for
    an enum or the kind of a union. Children come before their parents in the buffer.
    """
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        places = [put(builder, item) for item in value]
        builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            builder.PrependUOffsetTRelative(place)
        return builder.EndVector()
    places = [item if isinstance(item, (int, type(None))) else put(builder, item) for item in value]
    builder.StartObject(len(value))
    for slot, (item, place) in enumerate(zip(value, places)):
        if isinstance(item, int):
            builder.PrependInt8Slot(slot, place, 0)
        elif item is not None:
            builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    return builder.EndObject()


def _place(table, slot):
    """Returns where a field lies, or None where it is absent."""
    offset = table.Offset(4 + 2 * slot)
    if not offset:
        return None
    return table.Pos + offset


def byte(table: Table, slot: int) -> int:
    """Returns an 8-bit field, 0 where it is absent."""
    place = _place(table, slot)
    if place is None:
        return 0
    return table.Get(number_types.Int8Flags, place)


def text(table: Table, slot: int) -> str:
    """Returns a field of text, "" where it is absent."""
    place = _place(table, slot)
    if place is None:
        return ""
    return table.String(place).decode("utf-8", "replace")


def table(parent: Table, slot: int) -> Table:
    """Returns a field that is a table."""
    return Table(parent.Bytes, parent.Indirect(_place(parent, slot)))


def tables(table: Table, slot: int) -> list[Table]:
    """Returns a field that is a list of tables, [] where it is absent."""
    place = _place(table, slot)
    if place is None:
        return []
    start = table.Vector(place - table.Pos)
    return [
        Table(table.Bytes, table.Indirect(start + 4 * number))
        for number in range(table.VectorLen(place - table.Pos))
    ]


def vector(table: Table, slot: int) -> tuple[float, ...]:
    """Returns a field of float32 numbers, () where it is absent."""
    place = _place(table, slot)
    if place is None:
        return ()
    count, start = table.VectorLen(place - table.Pos), table.Vector(place - table.Pos)
    return tuple(float(value) for value in np.frombuffer(table.Bytes, "<f4", count, start))
