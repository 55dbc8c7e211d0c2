"""Tables as the page shows them: cells with their text and their raw numbers, differences, rows that stay together."""

from __future__ import annotations

import re
from typing import NamedTuple

from bangbench.reporting.table import Cell, Column, Row, Table, Value, cell_text, printed_columns

#: What a model was told to be, not what was measured of it: no difference is taken.
_GIVEN = frozenset({"beta", "epsilon"})
_LONG_TEXT = 32
_LONG_HEADER = 14
_MARK = re.compile(r"\[(masked|suspect|inconclusive|sound|no audit)\]$")
_DOUBT = re.compile(r"(?:.*\[)?(masked|suspect|inconclusive)\]?")
_DIFFERENCE = "difference"
_DIFFERENCE_NOTE = (
    "Difference: measured minus published, of the means where there are any, computed before rounding; rates and "
    "accuracies in percentage points."
)


class CellView(NamedTuple):
    """The text of a cell, and its numbers as the CSV prints them (None: not a number)."""

    text: str
    value: str | None

    @property
    def long(self) -> bool:
        """Return whether the text is broken into lines."""
        return self.value is None and len(self.text) > _LONG_TEXT

    @property
    def mark(self) -> str:
        """Return the verdict in brackets behind a number, which may stand on a line of its own; else nothing."""
        found = _MARK.search(self.text)
        return "" if found is None or self.value is None else found[0]

    @property
    def doubt(self) -> str:
        """Return masked, suspect or inconclusive where an audit says so, else nothing."""
        found = _DOUBT.fullmatch(self.text)
        return "" if found is None else found[1]


class RowView(NamedTuple):
    """kind: measured, unmasked, published or difference."""

    kind: str
    cells: tuple[CellView, ...]


class HeaderView(NamedTuple):
    """The text above a column; align: left or right."""

    text: str
    align: str

    @property
    def long(self) -> bool:
        """Return whether the text needs some room to be broken into few lines."""
        return len(self.text) > _LONG_HEADER


class TableView(NamedTuple):
    """A table with its rows in units: a measured row and those that belong under it."""

    name: str
    title: str
    headers: tuple[HeaderView, ...]
    units: tuple[tuple[RowView, ...], ...]
    notes: tuple[str, ...]


def table_view(table: Table) -> TableView:
    """Return a table as it is shown, with a row of differences under each published row.

    A row of unmasked numbers stays with the row that it corrects.
    """
    units: list[list[RowView]] = []
    measured: Row | None = None
    for row in table.rows:
        if row.source == "measured" or not units:
            units.append([])
        units[-1].append(_row_view(table, row))
        if row.source == "measured":
            measured = row
        elif row.source == "published" and measured is not None:
            units[-1].append(_difference(table, measured, row))
    notes = (_DIFFERENCE_NOTE, *table.notes) if is_compared(table) else table.notes
    columns = [table.columns[index] for index in printed_columns(table)]
    headers = tuple(HeaderView(column.header, column.align) for column in columns)
    return TableView(table.name, table.title, headers, tuple(map(tuple, units)), notes)


def is_compared(table: Table) -> bool:
    """Return whether a table has published rows."""
    return any(row.source == "published" for row in table.rows)


def _row_view(table: Table, row: Row) -> RowView:
    pairs = [(table.columns[index], row.cells[index]) for index in printed_columns(table)]
    return RowView(row.source, tuple(CellView(cell_text(column, cell), _raw(column, cell)) for column, cell in pairs))


def _raw(column: Column, cell: Cell) -> str | None:
    """Return the values of a cell as the CSV prints them, None where it has no number or begins with a word."""
    if not column.fields or isinstance(cell[0], str) or not any(isinstance(value, (int, float)) for value in cell):
        return None
    return " ".join("" if value is None else str(value) for value in cell)


def _difference(table: Table, measured: Row, published: Row) -> RowView:
    cells = []
    for place, index in enumerate(printed_columns(table)):
        pair = measured.cells[index], published.cells[index]
        cells.append(CellView(_DIFFERENCE, None) if place == 0 else _difference_cell(table.columns[index], *pair))
    return RowView(_DIFFERENCE, tuple(cells))


def _difference_cell(column: Column, measured: Cell, published: Cell) -> CellView:
    """Return the difference of the first values, with as many decimals as the column shows."""
    if column.show is None or not column.fields or set(column.fields) & _GIVEN:
        return CellView("", None)
    first, second = _number(measured[0]), _number(published[0])
    if first is None or second is None:
        return CellView("", None)
    difference = first - second
    shown = column.show((abs(difference), *(None,) * (len(measured) - 1)))
    sign = "" if not any(digit in shown for digit in "123456789") else "+" if difference > 0 else "-"
    return CellView(sign + shown, str(difference))


def _number(value: Value) -> float | None:
    return None if value is None or isinstance(value, str) else float(value)
