"""What a report says: its tables and figures, built by functions known by name, and all of it for scripts: report.json.

Any of the builders can be taken away. The schema of report.json is report.schema.json here, with a version number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bangbench import __version__
from bangbench.core.registry import load_object
from bangbench.reporting.collect import FoundAudit
from bangbench.reporting.experiments import Experiment
from bangbench.reporting.figure import Figure
from bangbench.reporting.frames import Frames, records_of
from bangbench.reporting.table import Table, Value
from bangbench.store.audits import AuditSummary
from bangbench.store.headline import headline
from bangbench.store.records import DataInfo, ModelInfo

#: In the order in which a report shows them; each is called with an experiment and its frames.
TABLES = (
    "bangbench.reporting.defences:defence_table",
    "bangbench.paper.published:defence_claims",
    "bangbench.paper.tables:paper_table",
    "bangbench.paper.grid:grid_table",
    "bangbench.reporting.audit_tables:verdict_table",
    "bangbench.reporting.attack_tables:bench_table",
    "bangbench.reporting.attack_tables:masking_table",
    "bangbench.reporting.noise:noise_table",
    "bangbench.reporting.audit_tables:budget_table",
    "bangbench.reporting.robustness:robustness_table",
    "bangbench.reporting.pairs:pair_table",
    "bangbench.reporting.seeds:seed_table",
    "bangbench.paper.claims:claim_table",
)

#: Each is called with an experiment, and yields figures that are not drawn yet.
FIGURES = (
    "bangbench.reporting.defences:defence_figures",
    "bangbench.reporting.curves:audit_figures",
    "bangbench.reporting.curves:margin_figures",
    "bangbench.reporting.curves:robustness_figures",
    "bangbench.reporting.seeds:seed_figures",
    "bangbench.reporting.curves:similarity_figures",
    "bangbench.paper.figures:noise_figures",
    "bangbench.reporting.noise:noise_figures",
    "bangbench.reporting.pictures:example_figures",
    "bangbench.paper.figures:settings_figures",
    "bangbench.paper.figures:seed_figures",
    "bangbench.paper.grid_figures:grid_figures",
    "bangbench.reporting.curves:training_figures",
)


class WrittenFigure(NamedTuple):
    """A figure with its files, relative to the report's folder; the PNG is the last."""

    figure: Figure
    files: tuple[str, ...]


class Reported(NamedTuple):
    """Everything a report says about one experiment."""

    experiment: Experiment
    frames: Frames
    tables: tuple[Table, ...]
    figures: tuple[WrittenFigure, ...] = ()

    def table(self, suffix: str) -> Table | None:
        """Return a table by the end of its name, such as ``-claims``; None where there is none."""
        return next((table for table in self.tables if table.name == f"{self.experiment.name}{suffix}"), None)


def tables_of(experiment: Experiment, frames: Frames) -> Iterator[Table]:
    """Yield every table that an experiment has numbers for."""
    for name in TABLES:
        build: Callable[[Experiment, Frames], Table | None] = load_object(name, "a table of the report")
        table = build(experiment, frames)
        if table is not None:
            yield table


def figures_of(experiment: Experiment) -> Iterator[Figure]:
    """Yield every figure that an experiment has numbers for."""
    for name in FIGURES:
        build: Callable[[Experiment], Iterator[Figure]] = load_object(name, "a figure of the report")
        yield from build(experiment)


#: Raised whenever a field changes its name or meaning, or is gone.
DOCUMENT_SCHEMA: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TableDocument(_Part):
    """One table: the same fields and numbers as its CSV file."""

    name: str = Field(description="Stem of the table's files.")
    title: str
    notes: tuple[str, ...] = Field(description="What the numbers mean, in sentences.")
    rows: tuple[dict[str, Value], ...] = Field(
        description="One object per row, by CSV header. null: not measured or not defined; 'inf': infinite."
    )


class FigureDocument(_Part):
    """One figure and the files it was written to, relative to report.json."""

    name: str
    section: str
    title: str
    caption: str
    alternative: str
    files: tuple[str, ...]


class AuditDocument(_Part):
    """Whether a model's numbers mean what they seem to: verdicts, rates by budget and every check."""

    headline: str = Field(description="What the audit comes to, in one line.")
    against: str | None = Field(description="The regular model whose adversarial images were transferred.")
    data: DataInfo = Field(description="The images of the audit, often fewer than those of the attacks.")
    summary: AuditSummary


class ModelDocument(_Part):
    """A model, the attacks that were run on it, and its audit."""

    model: ModelInfo
    attacks: tuple[str, ...]
    audit: AuditDocument | None = Field(None, description="null: not audited.")


class GroupDocument(_Part):
    """One experiment on one data set; numbers of different groups were measured on different images."""

    name: str
    data: DataInfo
    models: tuple[ModelDocument, ...]
    tables: tuple[TableDocument, ...]
    figures: tuple[FigureDocument, ...]


class ReportDocument(_Part):
    """Everything a report says. Percent and grey levels (0 to 255), as the names of the fields say."""

    schema_version: Literal[1] = Field(DOCUMENT_SCHEMA, alias="schema")
    bangbench: str = Field(description="The version that wrote the report.")
    groups: tuple[GroupDocument, ...]
    problems: tuple[str, ...] = Field(description="One message for each record that could not be used.")
    unfinished: tuple[str, ...] = Field(description="Runs without numbers yet.")


def to_json(reported: Sequence[Reported], problems: tuple[str, ...], unfinished: tuple[str, ...]) -> str:
    """Return report.json."""
    document = ReportDocument(
        schema_version=DOCUMENT_SCHEMA,
        bangbench=__version__,
        groups=tuple(map(_group, reported)),
        problems=problems,
        unfinished=unfinished,
    )
    value = document.model_dump(mode="json", by_alias=True)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def document_schema() -> str:
    """Return the JSON Schema of report.json."""
    return json.dumps(ReportDocument.model_json_schema(), indent=1) + "\n"


def table_document(table: Table) -> TableDocument:
    """Return a table with its numbers, without its layout."""
    rows = tuple({field: _json_value(value) for field, value in row.items()} for row in records_of(table.csv_frame))
    return TableDocument(name=table.name, title=table.title, notes=table.notes, rows=rows)


def _group(reported: Reported) -> GroupDocument:
    experiment = reported.experiment
    return GroupDocument(
        name=experiment.name,
        data=experiment.data,
        models=tuple(
            ModelDocument(model=model.model, attacks=tuple(sorted(model.attacks)), audit=_audit(model.id, model.audit))
            for model in experiment.models
        ),
        tables=tuple(map(table_document, reported.tables)),
        figures=tuple(_figure(written.figure, written.files) for written in reported.figures),
    )


def _audit(name: str, found: FoundAudit | None) -> AuditDocument | None:
    if found is None:
        return None
    against = found.record.against
    return AuditDocument(
        headline=headline(name, found.summary),
        against=None if against is None else against.name,
        data=found.record.data,
        summary=found.summary,
    )


def _figure(figure: Figure, files: tuple[str, ...]) -> FigureDocument:
    described = {name: getattr(figure, name) for name in ("name", "section", "title", "caption", "alternative")}
    return FigureDocument(**described, files=files)


def _json_value(value: Value) -> Value:
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return value
