"""A report's table in a terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bangbench.reporting.table import Table, cell_text, printed_columns

_UNLIMITED = 10_000


def print_table(table: Table, console: Console) -> None:
    """Print a table with its notes: compact headers, the paper's rows dimmed.

    Where the terminal is too narrow, a mean and its deviation, or a rate and its interval, stand on two lines.
    Columns whose `short` header is None are in the files only.
    """
    layouts = [_grid(table, separator, gap) for separator in (" ", "\n") for gap in (1, 0)]
    unlimited = console.options.update(width=_UNLIMITED)
    fitting = (grid for grid in layouts if console.measure(grid, options=unlimited).maximum <= console.width)
    console.print(Text(table.title, style="bold"))
    console.print(next(fitting, layouts[-1]))
    for note in table.notes:
        console.print(Padding(Text(note, style="dim"), (0, 0, 0, 1)))


def _grid(table: Table, separator: str, gap: int) -> RichTable:
    """Return the table with `separator` before deviations and intervals and columns `gap` + 1 apart.

    Only names may be folded where that is still too wide.
    """
    shown = [index for index in printed_columns(table) if table.columns[index].short is not None]
    grid = RichTable(box=SIMPLE_HEAD, padding=(0, gap, 0, 0))
    for index in shown:
        column = table.columns[index]
        header = Text(column.short or "")
        grid.add_column(header, justify=column.align, no_wrap=column.align == "right", overflow="fold")
    for row in table.rows:
        cells = [Text(_compact(cell_text(table.columns[index], row.cells[index]), separator)) for index in shown]
        grid.add_row(*cells, style="dim" if row.source == "published" else None)
    return grid


def _compact(text: str, separator: str) -> str:
    return text.replace(" ± ", f"{separator}±").replace(" [", f"{separator}[")
