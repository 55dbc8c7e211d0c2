"""The bench's own columns: what the paper's table leaves out, one row per model and attack."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import (
    Cell,
    Column,
    Row,
    Table,
    Value,
    csv_column,
    decimals,
    joined,
    mean_and_std,
    text,
    value_and_interval,
)
from bangbench.reporting.verdicts import (
    attack_claims,
    audit_notes,
    is_masked,
    unmasked_claim,
    verdict_on,
)
from bangbench.store.audits import ClaimVerdict
from bangbench.store.records import AttackSummary

ATTACK_ORDER = ("fgs", "fgs-unmasked", "hc1", "hc1-unmasked")

#: A gap in rate between an attack and its twin, in percentage points, from which on it is put into words.
RATE_GAP = 5.0

_TITLES = {"fgs": "FGS", "fgs-unmasked": "FGS-unmasked", "hc1": "HC1", "hc1-unmasked": "HC1-unmasked"}

_NOTES = (
    "Rate: flipped per correct image, with its 95 % Wilson interval. Blank: correct images that give the attack "
    "no direction; for FGS those whose float32 loss is exactly 0. L∞ in grey levels.",
    "L∞, PASS and SSIM: mean ± standard deviation over the flipped images. Median L∞: over all correct images, "
    "those never flipped counted as infinite (∞).",
    "PASS: the written definition. PASS (paper): matched empirically to the paper's Table 1, not the authors' "
    "code. ECC failures: pairs whose alignment failed and which are scored unaligned.",
)


def bench_table(group: Group) -> Table:
    """Return rates with intervals, blank gradients, medians and every similarity score of a group."""
    kinds = _ecc_kinds(group)
    rows = [
        row for model in group.models for attack in attack_names(model) for row in _rows(group, model, attack, kinds)
    ]
    return Table(
        name=f"{group.name}-bench",
        title=f"{group_title(group)}; the bench's own columns",
        columns=_columns(kinds, audited=bool(group.audits)),
        rows=tuple(rows),
        notes=(
            *_NOTES,
            *_unverified_note(group),
            *audit_notes(group, attack_claims(group)),
            *unfinished_note(group),
        ),
    )


def attack_names(model: ModelResults) -> list[str]:
    """Return the attacks run on a model: the bench's own in their order, then others by name."""
    known = [name for name in ATTACK_ORDER if name in model.attacks]
    return known + sorted(set(model.attacks) - set(known))


def attack_title(attack: str) -> str:
    """Return an attack's name as headings print it: FGS for fgs; the names of other attacks stay as they are."""
    return _TITLES.get(attack, attack)


def not_shown(left_out: Iterable[str], without_images: Iterable[str]) -> tuple[str, ...]:
    """Return a sentence that names what a figure of single images leaves out, and the models that have none."""
    lists = (("not shown", ", ".join(left_out)), ("no single images", ", ".join(without_images)))
    text = "; ".join(f"{what}: {names}" for what, names in lists if names)
    return (f"{text[0].upper()}{text[1:]}.",) if text else ()


def median_censored(summary: AttackSummary) -> float | None:
    """Return the median L_inf with failures as infinite, in grey levels; None where no image was attacked."""
    if summary.correct == 0:
        return None
    median = summary.linf.median_censored
    return math.inf if median is None else median


def _ecc_kinds(group: Group) -> tuple[str, ...]:
    kinds: dict[str, None] = {}
    for model in group.models:
        for found in model.attacks.values():
            kinds.update(dict.fromkeys(found.summary.ecc_failures))
    return tuple(kinds)


def _columns(ecc_kinds: tuple[str, ...], *, audited: bool) -> tuple[Column, ...]:
    ecc = f"ECC failures ({' / '.join(ecc_kinds)})" if ecc_kinds else "ECC failures"
    rate = ("rate_percent", "rate_low_percent", "rate_high_percent")
    linf = ("linf_mean_grey_levels", "linf_std_grey_levels")
    return (
        Column("ID", "ID", ("id",), text, "left"),
        csv_column("source"),
        csv_column("model"),
        csv_column("data"),
        Column("Attack", "Attack", ("attack",), text, "left"),
        Column("Images", None, ("images",), text),
        Column("Correct", None if audited else "Correct", ("correct",), text),
        Column("Flipped", "Flipped", ("flipped",), text),
        Column("Rate (%)", "Rate %", rate, value_and_interval(2)),
        Column("Audit", "Audit", ("audit_verdict",), text if audited else None, "left"),
        Column("Blank (%)", "Blank\n%", ("blank_percent",), decimals(2)),
        Column("L∞", "L∞", linf, mean_and_std(2)),
        Column("Median L∞", "Median\nL∞", ("linf_median_censored_grey_levels",), decimals(2)),
        Column("PASS", "PASS", ("pass_mean", "pass_std"), mean_and_std(4)),
        Column("PASS (paper)", None, ("pass_paper_mean", "pass_paper_std"), mean_and_std(4)),
        Column("SSIM unaligned", None, ("ssim_unaligned_mean", "ssim_unaligned_std"), mean_and_std(4)),
        Column(ecc, None, tuple(f"ecc_failures_{kind}" for kind in ecc_kinds), joined),
    )


def _rows(group: Group, model: ModelResults, attack: str, ecc_kinds: tuple[str, ...]) -> list[Row]:
    """Return an attack's row and, where it is masked and its twin was not run, what the audit says of the twin."""
    found = model.attacks[attack]
    rows = [Row("measured", _cells(group, model, attack, found.summary, ecc_kinds))]
    twin = unmasked_claim(model, attack) if is_masked(model, attack) else None
    if twin is not None and twin.claim not in model.attacks:
        rows.append(Row("unmasked", _audited_cells(group, model, twin, ecc_kinds)))
    return rows


def _audited_cells(
    group: Group, model: ModelResults, claim: ClaimVerdict, ecc_kinds: tuple[str, ...]
) -> tuple[Cell, ...]:
    """Return what an audit says of an attack, over the audit's images."""
    audit = model.audit
    nothing: Cell = (None, None)
    return (
        (short_name(model.name),),
        ("audit",),
        (model.name,),
        (group.data.name,),
        (claim.claim,),
        (None if audit is None else audit.summary.images,),
        (None if audit is None else audit.summary.correct,),
        (None,),
        (claim.rate, None, None),
        (claim.verdict,),
        (None,),
        nothing if claim.linf is None else (claim.linf.mean, claim.linf.std),
        (None,),
        *(nothing, nothing, nothing),
        (None,) * max(1, len(ecc_kinds)),
    )


def _cells(
    group: Group, model: ModelResults, attack: str, summary: AttackSummary, ecc_kinds: tuple[str, ...]
) -> tuple[Cell, ...]:
    interval: tuple[Value, Value] = summary.rate_interval or (None, None)
    return (
        (short_name(model.name),),
        ("measured",),
        (model.name,),
        (group.data.name,),
        (attack,),
        (summary.images,),
        (summary.correct,),
        (summary.flipped,),
        (summary.rate, *interval),
        (verdict_on(model.audit, attack),),
        (summary.blank,),
        (summary.linf.mean, summary.linf.std),
        (median_censored(summary),),
        (summary.pass_definition.mean, summary.pass_definition.std),
        (summary.pass_paper.mean, summary.pass_paper.std),
        (summary.unaligned.mean, summary.unaligned.std),
        tuple(summary.ecc_failures.get(kind) for kind in ecc_kinds) or (None,),
    )


def _unverified_note(group: Group) -> tuple[str, ...]:
    """Return a sentence about flips that were not there again when the stored image was predicted."""
    counts = [
        f"{short_name(model.name)} {attack} {found.summary.unverified:,}"
        for model in group.models
        for attack, found in sorted(model.attacks.items())
        if found.summary.unverified
    ]
    return (f"Flips not confirmed by predicting the stored image again: {', '.join(counts)}.",) if counts else ()
