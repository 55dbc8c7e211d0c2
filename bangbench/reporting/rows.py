"""The table as the paper prints it: each measured row with the published one directly under it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.published import PublishedAttack, RowReference, published, published_label, published_row
from bangbench.reporting.table import (
    Cell,
    Column,
    Row,
    Show,
    Table,
    csv_column,
    decimals,
    mean_and_std,
    text,
)
from bangbench.reporting.verdicts import (
    UNMASKED,
    audit_notes,
    is_masked,
    show_if_doubted,
    show_rate,
    unmasked_claim,
    verdict_on,
)
from bangbench.store.audits import PREDICTIONS

_NOTHING: tuple[Cell, Cell, Cell] = ((None, None), (None, None), (None, None))
_ATTACKS = ("fgs", "hc1")


def _attack_columns(attack: str, show: Show) -> tuple[Column, Column, Column]:
    title = attack.upper()
    linf = (f"{attack}_linf_mean_grey_levels", f"{attack}_linf_std_grey_levels")
    return (
        Column(f"{title} rate (%)", f"{title}\nrate %", (f"{attack}_rate_percent", f"{attack}_audit_verdict"), show),
        Column(
            f"{title} PASS",
            f"{title}\nPASS",
            (f"{attack}_pass_paper_mean", f"{attack}_pass_paper_std"),
            mean_and_std(4),
        ),
        Column(f"{title} L∞", f"{title}\nL∞", linf, mean_and_std(2)),
    )


def _columns(group: Group) -> tuple[Column, ...]:
    return (
        Column("ID", "ID", (), text, "left"),
        csv_column("id"),
        csv_column("source"),
        csv_column("model"),
        csv_column("data"),
        Column("β", "β", ("beta",), decimals(2)),
        Column("ε", "ε", ("epsilon",), decimals(3)),
        Column("Accuracy (%)", "Acc.\n%", ("accuracy_percent", "predictions_audit_verdict"), show_if_doubted(2)),
        *(column for attack in _ATTACKS for column in _attack_columns(attack, show_rate(group))),
    )


class _Pair(NamedTuple):
    """A measured model and the published row it reproduces."""

    model: ModelResults
    reference: RowReference | None


def paper_table(group: Group) -> Table:
    """Return the columns of the paper's Tables 1 and 2 for a group: rates in percent, L_inf in grey levels."""
    pairs = [_Pair(model, published_row(model.model, group.data, model.card)) for model in group.attacked]
    rows: list[Row] = []
    for pair in pairs:
        rows += [_measured(group, pair.model), *_unmasked(group, pair.model)]
        if pair.reference is not None:
            rows.append(_published(group, pair.model, pair.reference))
    return Table(
        name=group.name,
        title=group_title(group),
        columns=_columns(group),
        rows=tuple(rows),
        notes=(
            *_definitions(group),
            *_published_notes(group, pairs),
            *audit_notes(group, (PREDICTIONS, *_ATTACKS)),
            *_unmasked_note(rows),
            *unfinished_note(group),
        ),
    )


def group_title(group: Group) -> str:
    """Return what was measured: the group, its nets, the data and the number of images."""
    nets = {model.model.net for model in group.models}
    nets |= {info.net for found in group.noise for info in found.record.models}
    return f"{group.name}: {', '.join(sorted(nets))} on {group.data.name}, {group.data.images:,} test images"


def unfinished_note(group: Group) -> tuple[str, ...]:
    """Return a sentence that names the runs that were started and have no numbers yet."""
    runs = ", ".join(f"{short_name(item.name)} {item.run}" for item in group.unfinished)
    return (f"Started but not finished, so not in the tables: {runs}.",) if runs else ()


def _measured(group: Group, model: ModelResults) -> Row:
    row_id = short_name(model.name)
    cells: tuple[Cell, ...] = (
        (row_id,),
        (row_id,),
        ("measured",),
        (model.name,),
        (group.data.name,),
        (model.model.method_number("beta"),),
        (model.model.method_number("epsilon"),),
        (model.accuracy, verdict_on(model.audit, PREDICTIONS)),
        *(cell for attack in _ATTACKS for cell in _measured_attack(model, attack)),
    )
    return Row("measured", cells)


def _measured_attack(model: ModelResults, attack: str) -> tuple[Cell, Cell, Cell]:
    summary = model.summary(attack)
    if summary is None:
        return _NOTHING
    score, linf = summary.pass_paper, summary.linf
    return (summary.rate, verdict_on(model.audit, attack)), (score.mean, score.std), (linf.mean, linf.std)


def _unmasked(group: Group, model: ModelResults) -> list[Row]:
    """Return the row under a model with masked rates: the same attacks where nothing holds them back."""
    if not any(is_masked(model, attack) and attack in model.attacks for attack in _ATTACKS):
        return []
    cells: tuple[Cell, ...] = (
        ("unmasked",),
        (short_name(model.name),),
        ("unmasked",),
        (model.name,),
        (group.data.name,),
        (None,),
        (None,),
        (None, None),
        *(cell for attack in _ATTACKS for cell in _unmasked_attack(model, attack)),
    )
    return [Row("unmasked", cells)]


def _unmasked_attack(model: ModelResults, attack: str) -> tuple[Cell, Cell, Cell]:
    """Return the numbers of a masked attack's twin: those measured, or else the audit's, which have no PASS."""
    if not is_masked(model, attack):
        return _NOTHING
    if f"{attack}{UNMASKED}" in model.attacks:
        return _measured_attack(model, f"{attack}{UNMASKED}")
    claim = unmasked_claim(model, attack)
    if claim is None:
        return _NOTHING
    linf = claim.linf
    return (claim.rate, claim.verdict), (None, None), (None, None) if linf is None else (linf.mean, linf.std)


def _unmasked_note(rows: Iterable[Row]) -> tuple[str, ...]:
    if not any(row.source == "unmasked" for row in rows):
        return ()
    return (
        "Unmasked: the same attack where nothing holds it back, in place of the masked rate above it; without PASS "
        "where it is from the audit, which looks at fewer images.",
    )


def _published(group: Group, model: ModelResults, reference: RowReference) -> Row:
    row = reference.row
    cells: tuple[Cell, ...] = (
        (published_label(group.data, reference.dataset),),
        (short_name(model.name),),
        ("published",),
        (f"{reference.table}/{row.id}",),
        (reference.dataset,),
        (row.beta,),
        (row.epsilon,),
        (row.accuracy, None),
        *_published_attack(row.fgs),
        *_published_attack(row.hc1),
    )
    return Row("published", cells)


def _published_attack(attack: PublishedAttack) -> tuple[Cell, Cell, Cell]:
    return (attack.rate, None), attack.pass_paper, attack.linf


def _definitions(group: Group) -> tuple[str, ...]:
    return (
        "Rate: flipped images per correctly classified image. PASS and L∞ (grey levels of 0 to 255): mean ± "
        "standard deviation over the flipped images.",
        "PASS of the measured rows is pass_paper, which was matched empirically to the paper's Table 1 and is not "
        f"the authors' code; PASS by its written definition stands in {group.name}-bench.",
    )


def _published_notes(group: Group, pairs: list[_Pair]) -> tuple[str, ...]:
    references = [(short_name(pair.model.name), pair.reference) for pair in pairs if pair.reference is not None]
    if not references:
        return ()
    source = published().source
    tables = sorted({reference.table[-1] for _, reference in references})
    notes = [f"Published rows: {source.title} (arXiv {source.arxiv}), Table {' and Table '.join(tables)}."]
    renamed = [
        f"{name} stands for Table {reference.table[-1]} {reference.row.id}"
        for name, reference in references
        if name != reference.row.id
    ]
    if renamed:
        notes.append(f"{'; '.join(renamed)}.")
    labels = {published_label(group.data, reference.dataset) for _, reference in references} - {"published"}
    if labels:
        # a copy may bear the name of the original; what was asked for tells them apart
        same_name = group.data.name in {reference.dataset for _, reference in references}
        measured_on = group.data.source if same_name else group.data.name
        notes.append(
            f"The rows above those marked {', '.join(sorted(labels))} were measured on {measured_on}: other "
            "images than the published numbers."
        )
    return tuple(notes)
