"""What the audits found: every check of every model, those that found something first."""

from __future__ import annotations

from collections.abc import Iterable

from bangbench.auditing.reasons import REASONS, SOURCES
from bangbench.reporting.audit_rows import AuditedModel, audited_models
from bangbench.reporting.groups import Group
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import Cell, Column, Row, Table, csv_column, text
from bangbench.store.audits import Check, Outcome

#: In the order in which a reader wants to know of them.
OUTCOMES: tuple[Outcome, ...] = ("masked", "suspect", "inconclusive", "note", "not-run", "passed")


def finding_table(group: Group) -> Table | None:
    """Return every check of every audited model with its evidence, worst first; None without audits."""
    models = audited_models(group)
    if not models:
        return None
    return Table(
        name=f"{group.name}-findings",
        title=f"{group_title(group)}; what the audit found",
        columns=_COLUMNS,
        rows=tuple(Row("measured", _cells(group, model, check)) for model in models for check in worst_first(model)),
        notes=(
            "Outcome: masked, suspect and inconclusive decide the verdict on the claims named (none: on all); a note "
            "does not. Images: how many show it, and places of the first few in the test split, counted from 0.",
            *sources_note(group),
            *unfinished_note(group),
        ),
    )


def worst_first(model: AuditedModel) -> list[Check]:
    """Return a model's checks, worst first, each kind in the order in which they were made."""
    return sorted(model.audit.summary.checks, key=lambda check: OUTCOMES.index(check.outcome))


def images_text(count: int, first: Iterable[object]) -> str:
    """Return how many images show something, and the places of the first of them: ``985: 0, 1, 2, ...``."""
    listed = [str(place) for place in first]
    more = ["..."] if len(listed) < count else []
    return f"{count:,}: {', '.join([*listed, *more])}" if listed else f"{count:,}"


def sources_of(check: Check) -> tuple[str, ...]:
    """Return the keys of the sources of a check; none for one that this version does not know."""
    reason = REASONS.get(check.code)
    return () if reason is None else reason.sources


def sources_note(group: Group) -> tuple[str, ...]:
    """Return a sentence that names the sources of those checks that found something."""
    checks = [check for model in audited_models(group) for check in model.audit.summary.checks]
    cited = {key for check in checks if check.outcome != "passed" for key in sources_of(check)}
    named = [f"{key}: {title}" for key, title in SOURCES.items() if key in cited]
    return (f"Sources. {'; '.join(named)}.",) if named else ()


def _show_images(cell: Cell) -> str:
    count, first = cell
    return images_text(count, str(first or "").split()) if isinstance(count, int) else text((None,))


_COLUMNS = (
    Column("ID", "ID", ("id",), text, "left"),
    csv_column("model"),
    csv_column("data"),
    Column("Code", "Code", ("code",), text, "left"),
    Column("Outcome", "Outcome", ("outcome",), text, "left"),
    Column("Claims", None, ("claims",), text, "left"),
    Column("Evidence", "Evidence", ("evidence",), text, "left"),
    Column("What it means", None, ("meaning",), text, "left"),
    Column("What to do", None, ("advice",), text, "left"),
    csv_column("sources"),
    Column("Images", None, ("images_count", "images_first"), _show_images, "left"),
)


def _cells(group: Group, model: AuditedModel, check: Check) -> tuple[Cell, ...]:
    return (
        (model.short,),
        (model.name,),
        (group.data.name,),
        (check.code,),
        (check.outcome,),
        (", ".join(check.claims) or None,),
        (check.evidence,),
        (check.meaning,),
        (check.advice,),
        ("; ".join(sources_of(check)) or None,),
        (check.count, " ".join(map(str, check.images)) or None),
    )
