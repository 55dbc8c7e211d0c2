"""Everything a report says about one group: its tables and its figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bangbench.reporting.audit_rows import budget_table, verdict_table
from bangbench.reporting.bench_rows import bench_table
from bangbench.reporting.claim_rows import claim_table
from bangbench.reporting.finding_rows import finding_table
from bangbench.reporting.groups import Group
from bangbench.reporting.masking_rows import masking_table
from bangbench.reporting.noise_rows import noise_table
from bangbench.reporting.pair_rows import pair_table
from bangbench.reporting.plot import Plot
from bangbench.reporting.robustness_rows import robustness_table
from bangbench.reporting.rows import paper_table
from bangbench.reporting.seed_rows import seed_table
from bangbench.reporting.table import Table

_MakeTable = Callable[[Group], Table | None]

#: The tables that a terminal shows, and those that the files and the page add.
_MAIN: tuple[_MakeTable, ...] = (paper_table, verdict_table, bench_table, masking_table, noise_table)
_DETAILS: tuple[_MakeTable, ...] = (
    budget_table,
    finding_table,
    robustness_table,
    pair_table,
    seed_table,
    claim_table,
)


class WrittenFigure(NamedTuple):
    """A figure with its files, relative to the report's folder."""

    plot: Plot
    files: tuple[str, ...]


class Chapter(NamedTuple):
    """One group with its tables, the paper's first, and the figures that were written."""

    group: Group
    tables: tuple[Table, ...]
    details: tuple[Table, ...]
    figures: tuple[WrittenFigure, ...] = ()

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """Return every table."""
        return (*self.tables, *self.details)


def chapter_of(group: Group) -> Chapter:
    """Return a group with all tables there are numbers for, its figures not yet drawn."""
    main, details = (
        tuple(table for make in kinds if (table := make(group)) is not None and table.rows)
        for kinds in (_MAIN, _DETAILS)
    )
    return Chapter(group, main, details)
