"""A report in a terminal: one line a model, and the tables in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from bangbench.reporting.table import MISSING, SIGMA, Table, number

if TYPE_CHECKING:
    from bangbench.reporting.audit_tables import Standing
    from bangbench.reporting.experiments import Experiment

_UNLIMITED = 10_000
#: Columns and lines that a summary may take: one screen.
_WIDTH, _LINES = 100, 24
_STYLES = {"sound": "green", "inconclusive": "magenta", "suspect": "yellow", "masked": "bold red"}


def print_standings(found: Sequence[tuple[Experiment, list[Standing]]], console: Console) -> None:
    """Print one line a model by experiment: what its numbers are worth, clean and robust accuracy, FGS alone, noise."""
    from bangbench.reporting.audit_tables import answer

    lines = [line for _, listed in found for line in listed]
    console.print(Text(answer(lines), style="bold"), width=_WIDTH)
    left = _LINES - 4 * len(found)
    for experiment, listed in found:
        shown = listed[: max(left, 1)]
        left -= len(shown)
        console.print(_that_fits(experiment, shown, min(_WIDTH, console.width), console), width=_WIDTH)
        if len(shown) < len(listed):
            left_out = len(listed) - len(shown)
            more = "1 more model" if left_out == 1 else f"{left_out} more models"
            console.print(Text(f"{more} of {experiment.name}: --details", style="dim"))


def _that_fits(experiment: Experiment, lines: Sequence[Standing], width: int, console: Console) -> RichTable:
    """Return the widest table that a terminal shows whole: without intervals, then with less and less else."""
    budgets = sorted({budget for line in lines for budget in line.robust})
    kinds = [(budgets, True, True), (budgets, False, True), (budgets[-1:], False, True), (budgets[-1:], False, False)]
    tables = [_standings(experiment, lines, *kind) for kind in kinds]
    unlimited = console.options.update(width=_UNLIMITED)
    return next((each for each in tables if console.measure(each, options=unlimited).maximum <= width), tables[-1])


def _standings(
    experiment: Experiment, lines: Sequence[Standing], budgets: Sequence[int], intervals: bool, others: bool
) -> RichTable:
    """Return one line a model; others: what FGS alone would have said, and noise."""
    from bangbench.reporting.audit_tables import BADGES

    noisy = others and any(line.noise for line in lines)
    grid = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column(experiment.name, overflow="fold", max_width=28)
    grid.add_column("numbers", no_wrap=True)
    headers = ["clean %", *(f"robust %\nat {budget}/255" for budget in budgets)]
    for header in [*headers, *(["FGS\nalone %"] if others else []), *([f"noise %\nat {SIGMA}"] if noisy else [])]:
        grid.add_column(header, justify="right", no_wrap=True)
    for line in lines:
        robust = [_robust(line, budget, with_interval=intervals and budget == budgets[-1]) for budget in budgets]
        noise = MISSING if line.noise is None else f"{line.noise[1]:.1f} ({line.noise[0]:g})"
        badge = Text(f"{BADGES[line.verdict]}{line.quick}", style=_STYLES.get(line.verdict, "dim"))
        alone = [number(line.fgs, 1)] if others else []
        rest = [number(line.clean, 1), *robust, *alone, *([noise] if noisy else [])]
        grid.add_row(Text(line.model.id), badge, *rest)
    return grid


def _robust(line: Standing, budget: int, *, with_interval: bool) -> str:
    found = line.robust.get(budget)
    if found is None:
        return MISSING
    return f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]" if with_interval else f"{found.value:.1f}"


def print_table(table: Table, console: Console) -> None:
    """Print a table with its notes: compact headers, the paper's rows dimmed.

    Where the terminal is too narrow, a mean and its deviation, or a rate and its interval, stand on two lines.
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
    shown = [place for place, column in enumerate(table.columns) if column.terminal]
    grid = RichTable(box=SIMPLE_HEAD, padding=(0, gap, 0, 0))
    for place in shown:
        column = table.columns[place]
        header = column.header.replace(" ", "\n")
        grid.add_column(header, justify="left" if column.left else "right", no_wrap=not column.left, overflow="fold")
    for kind, cells in table.printed():
        texts = [Text(_compact(cells[place], separator)) for place in shown]
        grid.add_row(*texts, style="dim" if kind == "published" else None)
    return grid


def _compact(text: str, separator: str) -> str:
    return text.replace(" ± ", f"{separator}±").replace(" [", f"{separator}[")
