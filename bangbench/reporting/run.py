"""The report: from records on disk to tables, figures and the page on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bangbench.core.errors import BenchError
from bangbench.core.progress import SILENT, Progress
from bangbench.core.registry import load_object
from bangbench.reporting import ReportSpec
from bangbench.reporting.audit_tables import Standing, standings
from bangbench.reporting.collect import collect
from bangbench.reporting.document import Reported, WrittenFigure, figures_of, tables_of, to_json
from bangbench.reporting.draw import write_figures
from bangbench.reporting.experiments import Experiment, group_records
from bangbench.reporting.figure import Figure
from bangbench.reporting.frames import frames_of
from bangbench.reporting.page import PageContent, build_page
from bangbench.reporting.pairs import Comparison, compare_named
from bangbench.reporting.render import RENDERERS
from bangbench.reporting.table import Table
from bangbench.store.files import check_writable, write_text
from bangbench.store.layout import REPORT_DOCUMENT

PAGE = "report.html"
_FIGURES = "figures"
#: What only the paper's package knows, loaded by name.
_CLAIM_TABLE, _CHECK_CLAIMS = "bangbench.paper.claims:claim_table", "bangbench.paper.claims:check_claims"


class ReportResult(NamedTuple):
    """What was reported, the files written, and one message for each record that is unusable or doubtful.

    `unfinished` names the runs that were started and have no numbers yet, such as ``table1/R0 fgs``; comparison: what
    was asked about two models.
    """

    reported: tuple[Reported, ...]
    files: tuple[Path, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]
    comparison: Comparison | None = None

    @property
    def tables(self) -> tuple[Table, ...]:
        """Return the tables of all experiments."""
        return tuple(table for each in self.reported for table in each.tables)

    @property
    def standings(self) -> list[tuple[Experiment, list[Standing]]]:
        """Return the one line of each model, by experiment."""
        return [
            (each.experiment, standings(each.experiment, each.frames))
            for each in self.reported
            if each.experiment.everyone
        ]


class Found(NamedTuple):
    """The experiments under a root, and what is wrong or unfinished there."""

    experiments: tuple[Experiment, ...]
    problems: tuple[str, ...]
    unfinished: tuple[str, ...]


def report(spec: ReportSpec, progress: Progress = SILENT) -> ReportResult:
    """Write tables, figures and page of what was asked for; whatever cannot be read is left out and named.

    Figures are drawn for the page and the JSON document, which refer to them, and where asked for; those that are
    there already stay. Raises `UsageError` for a name without results, `BenchError` where there are none at all, where
    two models cannot be compared, or where the report cannot be written.
    """
    found = find(spec.root, spec.models)
    comparison = None if spec.compare is None else compare_named(found.experiments, spec.compare)
    made = []
    for experiment in found.experiments:
        frames = frames_of([experiment])
        made.append(Reported(experiment, frames, tuple(tables_of(experiment, frames))))
    _check_names([table for each in made for table in each.tables])
    drawn = {"html", "json", "svg", "pdf"} & {*spec.format}
    figures = [tuple(figures_of(each.experiment)) if drawn else () for each in made]
    check_writable(spec.folder())
    progress.start("report", sum(map(len, figures)), unit="figures")
    try:
        files = [path for each in made for table in each.tables for path in _write_table(table, spec)]
        made, written = _with_figures(made, figures, spec, progress)
    finally:
        progress.finish()
    result = ReportResult(tuple(made), (*files, *written), found.problems, found.unfinished, comparison)
    return result._replace(files=(*result.files, *_write_whole(result, spec)))


def find(root: Path, models: tuple[str, ...] = ()) -> Found:
    """Return the experiments of `models` (empty: of everything under `root`); errors as in `report`."""
    collected = collect(root, models)
    experiments, doubts = group_records(collected)
    unfinished = tuple(f"{item.name} {item.run}" for item in collected.unfinished)
    return Found(experiments, (*collected.problems, *doubts), unfinished)


def check_claims(root: Path, models: tuple[str, ...]) -> tuple[Table, ...]:
    """Return the table of claims of every experiment that has published numbers; `BenchError` where none has."""
    build, check = (load_object(name, "the paper's claims") for name in (_CLAIM_TABLE, _CHECK_CLAIMS))
    made = (build(experiment, frames_of([experiment])) for experiment in find(root, models).experiments)
    tables = tuple(table for table in made if table is not None)
    check(tables)
    return tables


def single_images(experiment: Experiment) -> list[Path]:
    """Return the Parquet files that the numbers of an experiment were computed from, as far as they are there."""
    attacks = [found for model in experiment.models for found in model.attacks.values()]
    paths = [found.path for found in attacks if found.images is not None]
    paths += [found.path for found in experiment.noise if found.flipped is not None]
    audits = [model.audit.path.with_suffix(".parquet") for model in experiment.models if model.audit is not None]
    return [path.with_suffix(".parquet") for path in paths] + [path for path in audits if path.exists()]


def _check_names(tables: Sequence[Table]) -> None:
    """Raise `BenchError` where two tables would be one file, as with models in folders table1 and table1-bench."""
    counts = Counter(table.name for table in tables)
    name, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise BenchError(f"{count} tables would be called {name}; rename one of the folders under results/")


def _write_table(table: Table, spec: ReportSpec) -> list[Path]:
    formats = [name for name in dict.fromkeys(spec.format) if name in RENDERERS]
    for name in formats:
        write_text(spec.folder() / f"{table.name}.{name}", RENDERERS[name](table))
    return [spec.folder() / f"{table.name}.{name}" for name in formats]


def _with_figures(
    made: list[Reported], figures: list[tuple[Figure, ...]], spec: ReportSpec, progress: Progress
) -> tuple[list[Reported], list[Path]]:
    """Write the figures, and return what is reported with their files."""
    folder = spec.folder()
    flat = [figure for some in figures for figure in some]
    written = write_figures(flat, folder / _FIGURES, spec.format, progress) if flat else []
    each = iter(
        WrittenFigure(figure, tuple(path.relative_to(folder).as_posix() for path in paths))
        for figure, paths in zip(flat, written, strict=True)
    )
    whole = [one._replace(figures=tuple(next(each) for _ in some)) for one, some in zip(made, figures, strict=True)]
    return whole, [path for paths in written for path in paths]


def _write_whole(result: ReportResult, spec: ReportSpec) -> list[Path]:
    """Write the files that hold everything: the document and the page."""
    folder, written = spec.folder(), []
    # a reader elsewhere has no use for the directory that the results lie in
    problems = tuple(problem.replace(f"{spec.root}{os.sep}", "") for problem in result.problems)
    if "json" in spec.format:
        written.append(folder / REPORT_DOCUMENT)
        write_text(written[-1], to_json(result.reported, problems, result.unfinished))
    if "html" in spec.format:
        beside = [path.relative_to(folder).as_posix() for path in (*result.files, *written)]
        images = [path for each in result.reported for path in single_images(each.experiment)]
        page = PageContent(
            reported=result.reported,
            problems=problems,
            unfinished=result.unfinished,
            downloads=(*beside, *_links(images, folder, spec.root)),
            folder=folder,
            comparison=result.comparison,
        )
        written.append(folder / PAGE)
        write_text(written[-1], build_page(page))
    return written


def _links(paths: Sequence[Path], folder: Path, root: Path) -> list[str]:
    """Return links from a page in `folder` to the results beside it; none where it is written somewhere else."""
    if not folder.resolve().is_relative_to((root / "results").resolve()):
        return []
    return [Path(os.path.relpath(path, folder)).as_posix() for path in paths]
