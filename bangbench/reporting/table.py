"""A table: a frame of numbers that stay numbers, and columns that say how they are printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from bangbench.reporting.experiments import NOT_AUDITED
from bangbench.reporting.frames import plain

Value = float | int | str | None
Cell = tuple[Value, ...]
Show = Callable[[Cell], str]

MISSING = "–"  # an en dash, as papers print it  # noqa: RUF001
INFINITE = "∞"
SIGMA = "σ"  # noqa: RUF001  # the Greek letter

#: Tells the paper's rows, and those that correct a masked one, from the bench's own; not in the CSV.
KIND = "_kind"
#: What the first column prints where that is not a field of the CSV.
LABEL = "_label"


class Column(NamedTuple):
    """One printed column: its header, the fields of the frame that it shows, and how.

    left: text, set to the left; terminal: whether a terminal has room for it.
    """

    header: str
    fields: tuple[str, ...]
    show: Show
    left: bool = False
    terminal: bool = True


class Table(NamedTuple):
    """`name` is the stem of the files it is written to; `notes` are sentences to print below it.

    frame: one row per line, its columns those of the CSV, and some that begin with an underscore and are not in it.
    """

    name: str
    title: str
    frame: pd.DataFrame
    columns: tuple[Column, ...]
    notes: tuple[str, ...]

    @property
    def csv_frame(self) -> pd.DataFrame:
        """Return the frame as the CSV holds it."""
        return self.frame[[name for name in self.frame.columns if not name.startswith("_")]]

    def rows(self) -> Iterator[tuple[str, list[Cell]]]:
        """Yield the kind of each row (measured, unmasked or published) and its printed cells."""
        for record in self.frame.to_dict("records"):
            cells = [tuple(plain(record[field]) for field in column.fields) for column in self.columns]
            yield record.get(KIND) or "measured", cells

    def printed(self) -> list[tuple[str, list[str]]]:
        """Return the kind of each row and its cells as text."""
        return [
            (kind, [column.show(cell) for column, cell in zip(self.columns, cells, strict=True)])
            for kind, cells in self.rows()
        ]


def make_table(
    name: str, title: str, records: Sequence[Mapping[str, Any]], columns: Sequence[Column], notes: Sequence[str]
) -> Table | None:
    """Return a table of records whose keys, in order, are the fields of the CSV; None where there are none.

    Values keep their types: a whole number stays one where others of its column are missing.
    """
    fields = list(dict.fromkeys(field for record in records for field in record))
    if not records:
        return None
    values = {field: pd.Series([plain(record.get(field)) for record in records], dtype="object") for field in fields}
    return Table(name, title, pd.DataFrame(values), tuple(columns), tuple(notes))


def words(header: str, field: str = "", **options: Any) -> Column:
    """Return a column of names or sentences."""
    return Column(header, (field or header.lower(),), text, left=True, **options)


def whole(header: str, field: str = "", **options: Any) -> Column:
    """Return a column of counts."""
    return Column(header, (field or header.lower(),), text, **options)


def real(header: str, fields: str | tuple[str, ...], places: int, **options: Any) -> Column:
    """Return a column of numbers with so many decimals; of three, the others are the ends of an interval."""
    listed = (fields,) if isinstance(fields, str) else fields
    return Column(header, listed, decimals(places) if len(listed) == 1 else value_and_interval(places), **options)


def spread(header: str, stem: str, places: int, unit: str = "", **options: Any) -> Column:
    """Return a column of means and standard deviations."""
    return Column(header, (f"{stem}_mean{unit}", f"{stem}_std{unit}"), mean_and_std(places), **options)


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
        return number(mean, places) if None in cell else f"{number(mean, places)} ± {number(std, places)}"

    return show


def value_and_interval(places: int) -> Show:
    """Return a function that shows (value, low, high, ...) as ``1.68 [1.45, 1.95]``."""

    def show(cell: Cell) -> str:
        value, low, high = cell[:3]
        return number(value, places) + ("" if None in cell[:3] else f" {interval_text((low, high), places)}")

    return show


def value_and_verdict(places: int) -> Show:
    """Return a function that shows (value, ..., verdict on it) as ``1.68 [masked]``; None has no verdict."""

    def show(cell: Cell) -> str:
        value, verdict = cell[0], cell[-1]
        if value is None or not isinstance(verdict, str):
            return number(value, places)
        return f"{number(value, places)} [{'no audit' if verdict == NOT_AUDITED else verdict}]"

    return show


def if_doubted(places: int) -> Show:
    """Return a function that shows (number, verdict): the verdict only where it is a bad one."""
    judged, bare = value_and_verdict(places), decimals(places)
    return lambda cell: judged(cell) if cell[-1] in ("inconclusive", "suspect", "masked") else bare(cell)


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


def interval_text(interval: tuple[Value, Value] | None, places: int) -> str:
    """Return ``[low, high]``, or nothing where there is no interval."""
    return "" if interval is None else f"[{number(interval[0], places)}, {number(interval[1], places)}]"
