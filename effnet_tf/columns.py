"""How do rows of cells become columns: lines of text, a table in a notebook?"""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Rows = Sequence[Sequence[str]]
Value = TypeVar("Value")


def aligned(rows: Rows) -> list[str]:
    """Returns rows of cells as lines, in columns; the first is the header, its column is left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:])]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines


def as_html(rows: Rows) -> str:
    """Returns rows of cells as an HTML table; the first is the header, its column is left."""
    kinds = ["th", *("td" for _ in rows[1:])]
    lines = [_row(cells, kind) for cells, kind in zip(rows, kinds)]
    return "\n".join(["<table>", *lines, "</table>"])


def _row(cells, kind):
    first, *others = map(html.escape, cells)
    inside = [f"<{kind} style='text-align: left'>{first}</{kind}>"]
    inside += [f"<{kind}>{cell}</{kind}>" for cell in others]
    return f"<tr>{''.join(inside)}</tr>"


class Shown(dict[str, Value]):
    """A dict that a prompt and a notebook show as a table, a row for each of its values.

    Args:
        content: what is in it.

    Attributes:
        rows: function of the dict, which returns the header and the rows; None: a plain dict.
    """

    def __init__(self, content: Mapping[str, Value], rows: Callable[[dict], Rows] | None = None):
        super().__init__(content)
        self.rows = rows

    def __repr__(self) -> str:
        if self.rows is None:
            return super().__repr__()
        return "\n".join(aligned(self.rows(self)))

    def _repr_html_(self) -> str | None:
        """Returns what Jupyter shows; None: `repr`."""
        if self.rows is None:
            return None
        return as_html(self.rows(self))
