"""A table of numbers that stay numbers: text is made of them only when a format is rendered."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

Value = float | int | str | None
Cell = tuple[Value, ...]
Show = Callable[[Cell], str]

MISSING = "–"  # an en dash, as papers print it  # noqa: RUF001
INFINITE = "∞"
NOT_AUDITED = "not audited"
_SHORT_VERDICTS = {NOT_AUDITED: "no audit"}
SIGMA = "σ"  # noqa: RUF001  # the Greek letter


class Column(NamedTuple):
    """One printed column, and the CSV columns that its values fill.

    `header` stands above it in Markdown and LaTeX, `short` in a terminal (None: left out there). `fields` are the
    CSV headers, one per value of a cell; empty: the column is not in the CSV. `show` makes text of a cell; None:
    the column is in the CSV only.
    """

    header: str
    short: str | None
    fields: tuple[str, ...]
    show: Show | None
    align: Literal["left", "right"] = "right"


class Row(NamedTuple):
    """One cell per column; `source` tells the paper's numbers from the bench's own.

    unmasked: stands under a row with a masked rate and says what the same attack does where nothing holds it back.
    """

    source: Literal["measured", "published", "unmasked"]
    cells: tuple[Cell, ...]


class Table(NamedTuple):
    """`name` is the stem of the files it is written to; `notes` are sentences to print below it."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def printed_columns(table: Table) -> list[int]:
    """Return the indices of the columns that are printed."""
    return [index for index, column in enumerate(table.columns) if column.show is not None]


def cell_text(column: Column, cell: Cell) -> str:
    """Return a cell as text: an en dash where there is no number."""
    return "" if column.show is None else column.show(cell)


def csv_column(field: str) -> Column:
    """Return a column that is in the CSV only."""
    return Column(field, None, (field,), None)


def text(cell: Cell) -> str:
    """Show a name, or a number with thousands separated and no more decimals than it has."""
    value = cell[0]
    if value is None:
        return MISSING
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:g}"


def decimals(places: int) -> Show:
    """Return a function that shows one number with so many decimals."""
    return lambda cell: number(cell[0], places)


def mean_and_std(places: int) -> Show:
    """Return a function that shows (mean, standard deviation) as ``40.56 ± 15.74``."""

    def show(cell: Cell) -> str:
        mean, std = cell
        if mean is None or std is None:
            return number(mean, places)
        return f"{number(mean, places)} ± {number(std, places)}"

    return show


def value_and_interval(places: int) -> Show:
    """Return a function that shows (value, low, high) as ``1.68 [1.45, 1.95]``."""

    def show(cell: Cell) -> str:
        value, low, high = cell
        if value is None or low is None or high is None:
            return number(value, places)
        return f"{number(value, places)} [{number(low, places)}, {number(high, places)}]"

    return show


def value_and_verdict(places: int) -> Show:
    """Return a function that shows (value, ..., verdict on it) as ``1.68 [masked]``; None has no verdict."""

    def show(cell: Cell) -> str:
        value, verdict = cell[0], cell[-1]
        if value is None or not isinstance(verdict, str):
            return number(value, places)
        return f"{number(value, places)} [{_SHORT_VERDICTS.get(verdict, verdict)}]"

    return show


def joined(cell: Cell) -> str:
    """Show several whole numbers as ``3 / 0``."""
    return " / ".join(MISSING if value is None else str(value) for value in cell)


def number(value: Value, places: int) -> str:
    """Return one number with so many decimals; None is an en dash, infinity its sign."""
    if value is None or isinstance(value, str):
        return value or MISSING
    if math.isinf(value):
        return INFINITE if value > 0 else f"-{INFINITE}"
    shown = f"{value:.{places}f}"
    return shown if float(shown) else f"{0:.{places}f}"  # what rounds to nothing has no sign
