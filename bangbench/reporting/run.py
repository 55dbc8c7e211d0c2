"""The report: from records on disk to tables, figures and the page on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bangbench.core.errors import BenchError
from bangbench.core.progress import SILENT, Progress
from bangbench.reporting.chapter import Chapter, WrittenFigure, chapter_of
from bangbench.reporting.claim_rows import claim_table
from bangbench.reporting.collect import collect
from bangbench.reporting.comparison import compare, paragraph
from bangbench.reporting.document import to_json
from bangbench.reporting.figures.catalogue import plots_of
from bangbench.reporting.figures.write import write_figures
from bangbench.reporting.groups import Group, Grouped, group_records
from bangbench.reporting.page.build import build_page
from bangbench.reporting.page.contents import page_content
from bangbench.reporting.render import RENDERERS
from bangbench.reporting.spec import ReportSpec
from bangbench.reporting.table import Table
from bangbench.store.files import check_writable, write_text
from bangbench.store.layout import REPORT_DOCUMENT

PAGE = "report.html"
_FIGURES = "figures"


class ReportResult(NamedTuple):
    """The chapters, the files written, and one message for each record that is unusable or doubtful.

    `unfinished` names the runs that were started and have no numbers yet, such as ``table1/R0 fgs``.
    """

    chapters: tuple[Chapter, ...]
    files: tuple[Path, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return the main tables of all chapters."""
        return tuple(table for chapter in self.chapters for table in chapter.tables)


class Found(NamedTuple):
    """The groups under a root, and what is wrong or unfinished there."""

    groups: tuple[Group, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]


def report(spec: ReportSpec, progress: Progress = SILENT) -> ReportResult:
    """Write tables, figures and page of what was asked for; whatever cannot be read is left out and named.

    Figures are drawn for the page and the JSON document, which refer to them. Raises `UsageError` for a name without
    results, `BenchError` where there are none at all or the report cannot be written.
    """
    found = find(spec.root, spec.models)
    chapters = [chapter_of(group) for group in found.groups]
    tables = [table for chapter in chapters for table in chapter.all_tables]
    _check_names(tables)
    formats = dict.fromkeys(spec.format)
    plots = [plots_of(chapter.group) if {"html", "json"} & {*formats} else [] for chapter in chapters]
    folder = spec.folder()
    if tables:
        check_writable(folder)
    files: list[Path] = []
    progress.start("report", len(tables) + sum(map(len, plots)), unit="tables and figures")
    try:
        for table in tables:
            files += _write_table(table, spec)
            progress.advance()
        flat = [plot for some in plots for plot in some]
        written = iter(write_figures(flat, folder / _FIGURES, progress))
    finally:
        progress.finish()
    for number, some in enumerate(plots):
        paths = [next(written) for _ in some]
        files += [path for several in paths for path in several]
        figures = (
            WrittenFigure(plot, tuple(path.relative_to(folder).as_posix() for path in several))
            for plot, several in zip(some, paths, strict=True)
        )
        chapters[number] = chapters[number]._replace(figures=tuple(figures))
    files += _write_whole(chapters, found, spec, files)
    return ReportResult(tuple(chapters), tuple(files), found.problems, found.unfinished)


def find(root: Path, models: tuple[str, ...] = ()) -> Found:
    """Return the groups of `models` (empty: of everything under `root`); errors as in `report`."""
    collected = collect(root, models)
    grouped: Grouped = group_records(collected)
    unfinished = tuple(f"{item.name} {item.run}" for item in collected.unfinished)
    return Found(grouped.groups, (*collected.problems, *grouped.problems), unfinished)


def compare_models(root: Path, first: str, second: str) -> str:
    """Return one paragraph on how two models measured on the same images compare: on most images, if on several sets.

    Raises `UsageError` for a name without results, `BenchError` where they were measured on different images or
    their single images are not there.
    """
    groups = find(root, (first, second)).groups
    measured = {
        name: {
            group.data.fingerprint: (group, model) for group in groups for model in group.models if model.name == name
        }
        for name in (first, second)
    }
    common = measured[first].keys() & measured[second].keys()
    if not common:
        raise BenchError(
            f"{first} and {second} have no results on the same images; attack both on the same data to compare them"
        )
    most = max(sorted(common), key=lambda fingerprint: measured[first][fingerprint][0].data.images)
    return paragraph(compare(measured[first][most][1], measured[second][most][1]))


def check_claims(root: Path, models: tuple[str, ...]) -> tuple[Table, ...]:
    """Return the table of claims of every group that has published numbers; `BenchError` where none has."""
    tables = tuple(table for group in find(root, models).groups if (table := claim_table(group)) is not None)
    if not tables:
        raise BenchError(
            "none of these results stands for a row of the paper: the net, its training images, method or settings are "
            "others; to train the paper's own: bangbench reproduce table1"
        )
    return tables


def single_images(group: Group) -> list[Path]:
    """Return the Parquet files that the numbers of a group were computed from, as far as they are there."""
    attacks = [found for model in group.models for found in model.attacks.values()]
    records = [found.path for found in attacks if found.rows is not None]
    records += [found.path for found in group.noise if found.rows is not None]
    paths = [path.with_suffix(".parquet") for path in records]
    audited = [model.audit.path.with_suffix(".parquet") for model in group.models if model.audit is not None]
    return paths + [path for path in audited if path.exists()]


def _links(paths: Sequence[Path], folder: Path, root: Path) -> list[str]:
    """Return links from a page in `folder` to the results beside it; none where it is written somewhere else."""
    if not folder.resolve().is_relative_to((root / "results").resolve()):
        return []
    return [Path(os.path.relpath(path, folder)).as_posix() for path in paths]


def _check_names(tables: Sequence[Table]) -> None:
    """Raise `BenchError` where two tables would be one file, as with models in folders table1 and table1-bench."""
    counts = Counter(table.name for table in tables)
    name, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise BenchError(f"{count} tables would be called {name}; rename one of the folders under results/")


def _write_table(table: Table, spec: ReportSpec) -> list[Path]:
    paths = []
    for name in dict.fromkeys(spec.format):
        if name in RENDERERS:
            path = spec.folder() / f"{table.name}.{name}"
            write_text(path, RENDERERS[name](table))
            paths.append(path)
    return paths


def _write_whole(chapters: Sequence[Chapter], found: Found, spec: ReportSpec, files: Sequence[Path]) -> list[Path]:
    """Write the files that hold everything: the document and the page."""
    folder, written = spec.folder(), []
    # a reader elsewhere has no use for the directory that the results lie in
    problems = tuple(problem.replace(f"{spec.root}{os.sep}", "") for problem in found.problems)
    if "json" in spec.format:
        written.append(folder / REPORT_DOCUMENT)
        write_text(written[-1], to_json(chapters, problems, found.unfinished))
    if "html" in spec.format:
        written.append(folder / PAGE)
        beside = [path.relative_to(folder).as_posix() for path in (*files, *written[:-1])]
        images = [path for chapter in chapters for path in single_images(chapter.group)]
        downloads = beside + _links(images, folder, spec.root)
        content = page_content(chapters, problems, found.unfinished, folder, downloads)
        write_text(written[-1], build_page(content))
    return written
