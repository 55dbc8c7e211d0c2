"""The report: from records on disk to tables and figures on disk."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from bangbench.core.errors import BenchError
from bangbench.core.progress import SILENT, Progress
from bangbench.report.bench_rows import bench_table
from bangbench.report.collect import collect
from bangbench.report.figures.noise import write_noise_figure
from bangbench.report.groups import Group, group_records
from bangbench.report.masking_rows import masking_table
from bangbench.report.noise_rows import noise_table
from bangbench.report.render import RENDERERS
from bangbench.report.rows import paper_table
from bangbench.report.spec import ReportSpec
from bangbench.report.table import Table
from bangbench.store.files import check_writable, write_text


class ReportResult(NamedTuple):
    """The tables made, the files written, and one message for each record that is unusable or doubtful.

    `unfinished` names the runs that were started and have no numbers yet, such as ``table1/R0 fgs``.
    """

    tables: tuple[Table, ...]
    files: tuple[Path, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]


def report(spec: ReportSpec, progress: Progress = SILENT) -> ReportResult:
    """Write the tables and figures of what was asked for; whatever cannot be read is left out and named.

    Raises `UsageError` for a name without results, `BenchError` where there are none at all or the report cannot
    be written.
    """
    collected = collect(spec.root, spec.models)
    grouped = group_records(collected)
    tables = [table for group in grouped.groups for table in tables_of(group)]
    _check_names(tables)
    noise = [found for group in grouped.groups for found in group.noise]
    folder = spec.folder()
    if tables:
        check_writable(folder)
    progress.start("report", len(tables) + len(noise), unit="tables and figures")
    files: list[Path] = []
    for table in tables:
        files += _write_table(table, spec)
        progress.advance()
    for found in noise:
        files += write_noise_figure(found, folder / "figures")
        progress.advance()
    progress.finish()
    return ReportResult(
        tables=tuple(tables),
        files=tuple(files),
        problems=(*collected.problems, *grouped.problems),
        unfinished=tuple(f"{item.name} {item.run}" for item in collected.unfinished),
    )


def tables_of(group: Group) -> list[Table]:
    """Return every table that a group has numbers for, the paper's first."""
    attacks = [paper_table(group), bench_table(group), masking_table(group)] if group.models else []
    return [table for table in (*attacks, noise_table(group)) if table is not None]


def _check_names(tables: list[Table]) -> None:
    """Raise `BenchError` where two tables would be one file, as with models in folders table1 and table1-bench."""
    counts = Counter(table.name for table in tables)
    name, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise BenchError(f"{count} tables would be called {name}; rename one of the folders under results/")


def _write_table(table: Table, spec: ReportSpec) -> list[Path]:
    paths = []
    for name in dict.fromkeys(spec.format):
        path = spec.folder() / f"{table.name}.{name}"
        write_text(path, RENDERERS[name](table))
        paths.append(path)
    return paths
