"""The audits of a group: the verdict on each claim, and what each attack does within each budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.collect import FoundAudit
from bangbench.reporting.groups import Group, short_name
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import (
    Cell,
    Column,
    Row,
    Table,
    csv_column,
    decimals,
    mean_and_std,
    number,
    text,
    value_and_interval,
)
from bangbench.reporting.verdicts import LEVELS, MASKED, UNMASKED, budget_text, worst_case_text
from bangbench.store.audits import PREDICTIONS, WORST_CASE, BudgetRates, ClaimVerdict

OVERALL = "overall"
WORST_CASE_ROW = "worst case"
ROBUST_ACCURACY_ROW = "robust accuracy"

_MEANING = (
    "Sound: nothing speaks against the number, be it high or low; suspect: something does; masked: the attack was kept "
    "from working, so its rate is no robustness; inconclusive: too few images to say. Overall: the "
    "worst verdict on any claim."
)


class AuditedModel(NamedTuple):
    """A model of a group that has an audit."""

    name: str
    audit: FoundAudit

    @property
    def short(self) -> str:
        """Return the name without its folder."""
        return short_name(self.name)


def audited_models(group: Group) -> list[AuditedModel]:
    """Return the audited models of a group in its order."""
    return [AuditedModel(model.name, model.audit) for model in group.models if model.audit is not None]


def verdict_table(group: Group) -> Table | None:
    """Return the verdict on each claim about each audited model; None without audits."""
    models = audited_models(group)
    if not models:
        return None
    return Table(
        name=f"{group.name}-verdicts",
        title=f"{group_title(group)}; verdicts of the audit",
        columns=_VERDICT_COLUMNS,
        rows=tuple(row for model in models for row in _verdict_rows(group, model)),
        notes=(
            *verdict_sentences(group),
            _MEANING,
            "Predictions: accuracy in percent; its verdict holds for the rates under random noise, too. Other rates: "
            "percent of the correct images, of attacks with a budget at the largest one; L∞ (grey levels): mean ± "
            "standard deviation over the flipped images. Worst case: all attacks of the audit together. Reasons: codes "
            f"in {group.name}-findings.",
            *_images_notes(models),
            *unfinished_note(group),
        ),
    )


def verdict_sentences(group: Group) -> tuple[str, ...]:
    """Return what the verdicts come to: one sentence per model that is not sound, one about those that are."""
    models = audited_models(group)
    told = [_sentence(model) for model in models if model.audit.summary.verdict != "sound"]
    sound = [model for model in models if model.audit.summary.verdict == "sound"]
    if len(sound) == 1:
        told.append(f"{sound[0].short} is sound ({worst_case_text(sound[0].audit)}): its rates mean what they say.")
    elif sound:
        names = ", ".join(model.short for model in sound)
        worst = "; ".join(f"{model.short} {worst_case_text(model.audit)}" for model in sound)
        told.append(f"{names} are sound ({worst}): their rates mean what they say.")
    return tuple(told)


def budget_table(group: Group) -> Table | None:
    """Return what each attack flips within each L_inf budget, models side by side; None where nothing was tried."""
    models = [model for model in audited_models(group) if model.audit.summary.budgets]
    if not models:
        return None
    return Table(
        name=f"{group.name}-budgets",
        title=f"{group_title(group)}; flipped within an L∞ budget, in percent",
        columns=(*_BUDGET_NAMES, *(_model_column(model) for model in models)),
        rows=tuple(_budget_rows(group, models)),
        notes=(
            "Budget: L∞ in grey levels, in brackets as a share of the range 0 to 255. Percent of the correct images "
            "that an attack flips within it, each attack from scratch; none for an attack that tried only what the "
            "others had left, which counts in the worst case.",
            "Worst case: images that any of the attacks flips within this budget or a smaller one, with the 95 % "
            "Wilson interval. Robust accuracy: percent of all images that are correct and stay so under all of them. "
            "Attacks that were not run could flip more.",
            *_images_notes(models),
            *unfinished_note(group),
        ),
    )


def attacks_within(models: Iterable[AuditedModel]) -> list[str]:
    """Return the attacks with a budget, in the order of the audits."""
    return list(
        dict.fromkeys(attack for model in models for rates in model.audit.summary.budgets for attack in rates.flipped)
    )


def robust_interval(audit: FoundAudit, rates: BudgetRates) -> tuple[float, float]:
    """Return the 95 % Wilson interval of the robust accuracy within a budget, in percent of all images."""
    summary = audit.summary
    return wilson_interval(summary.correct - rates.worst_case, summary.images) or (0.0, 100.0)


def _sentence(model: AuditedModel) -> str:
    """Return what is wrong with a model, in the form ``subject (evidence): conclusion``."""
    summary = model.audit.summary
    reasons = ", ".join(summary.reasons) or "no reason given"
    worst = f"all attacks of the audit together: {worst_case_text(model.audit)}"
    masked = [claim for claim in summary.claims if claim.verdict == MASKED]
    if not masked:
        doubted = ", ".join(claim.claim for claim in summary.claims if claim.verdict != "sound")
        return f"{model.short} is {summary.verdict} in {doubted or OVERALL} ({reasons}): read with care; {worst}."
    names = ", ".join(claim.claim for claim in masked)
    rates = "; ".join(_against(model, claim) for claim in masked)
    what = "these rates are" if len(masked) > 1 else "this rate is"
    return f"{model.short} is masked under {names} ({rates}; {reasons}): {what} no robustness; {worst}."


def _against(model: AuditedModel, claim: ClaimVerdict) -> str:
    """Return a masked number and, where the audit has one, that of the attack's unmasked twin."""
    twin = model.audit.summary.claim(f"{claim.claim}{UNMASKED}")
    shown = f"{claim.claim} {number(claim.rate, 2)} %"
    if claim.linf is not None and claim.linf.mean is not None:
        shown += f" at a mean L∞ of {number(claim.linf.mean, 1)}"
    if twin is None:
        return shown
    distance = "" if twin.linf is None else f" at {number(twin.linf.mean, 1)}"
    return f"{shown}, unmasked {number(twin.rate, 2)} %{distance}"


def _ordered(claims: Iterable[ClaimVerdict]) -> list[ClaimVerdict]:
    """Return the claims in their order, but the predictions first and the worst case last, twins side by side."""
    listed = list(claims)
    names = [claim.claim for claim in listed]

    def key(claim: ClaimVerdict) -> tuple[int, int, bool]:
        stem = claim.claim.removesuffix(UNMASKED)
        part = 0 if claim.claim == PREDICTIONS else 2 if claim.claim == WORST_CASE else 1
        return part, names.index(stem if stem in names else claim.claim), stem != claim.claim

    return sorted(listed, key=key)


_VERDICT_COLUMNS = (
    Column("ID", "ID", ("id",), text, "left"),
    csv_column("source"),
    csv_column("model"),
    csv_column("data"),
    csv_column("images"),
    Column("Claim", "Claim", ("claim",), text, "left"),
    Column("Verdict", "Verdict", ("audit_verdict",), text, "left"),
    Column("Rate (%)", "Rate %", ("rate_percent",), decimals(2)),
    Column("L∞", "L∞", ("linf_mean_grey_levels", "linf_std_grey_levels"), mean_and_std(2)),
    Column("Reasons", "Reasons", ("reasons",), text, "left"),
)


def _verdict_rows(group: Group, model: AuditedModel) -> Iterator[Row]:
    summary = model.audit.summary
    names: tuple[Cell, ...] = ((model.short,), ("audit",), (model.name,), (group.data.name,), (summary.images,))
    overall: tuple[Cell, ...] = ((OVERALL,), (summary.verdict,), (None,), (None, None), (_listed(summary.reasons),))
    yield Row("measured", (*names, *overall))
    for claim in _ordered(summary.claims):
        linf: Cell = (None, None) if claim.linf is None else (claim.linf.mean, claim.linf.std)
        cells: tuple[Cell, ...] = ((claim.claim,), (claim.verdict,), (claim.rate,), linf, (_listed(claim.reasons),))
        yield Row("measured", (*names, *cells))


def _listed(reasons: tuple[str, ...]) -> str | None:
    return ", ".join(reasons) or None


def _show_budget(cell: Cell) -> str:
    return budget_text(int(cell[0] or 0))


_BUDGET_NAMES = (
    Column("Budget", "Budget", ("budget_grey_levels", "budget_share"), _show_budget, "left"),
    csv_column("source"),
    csv_column("data"),
    Column("Attack", "Attack", ("attack",), text, "left"),
)


def _model_column(model: AuditedModel) -> Column:
    stem = model.short
    fields = (f"{stem}_percent", f"{stem}_low_percent", f"{stem}_high_percent")
    return Column(f"{stem} (%)", f"{stem}\n%", fields, value_and_interval(2))


def _budget_rows(group: Group, models: list[AuditedModel]) -> Iterator[Row]:
    """Yield one row per budget and attack, under them the worst case and the robust accuracy within that budget."""
    budgets = sorted({rates.budget for model in models for rates in model.audit.summary.budgets})
    for budget in budgets:
        for line in (*attacks_within(models), WORST_CASE_ROW, ROBUST_ACCURACY_ROW):
            cells = [_budget_cell(model, budget, line) for model in models]
            if any(cell[0] is not None for cell in cells):
                names: tuple[Cell, ...] = ((budget, budget / LEVELS), ("audit",), (group.data.name,), (line,))
                yield Row("measured", (*names, *cells))


def _budget_cell(model: AuditedModel, budget: int, line: str) -> Cell:
    """Return percent, low and high of one line of a model at one budget."""
    summary = model.audit.summary
    rates = next((rates for rates in summary.budgets if rates.budget == budget), None)
    if rates is None:
        return None, None, None
    if line == WORST_CASE_ROW:
        return rates.rate, *(rates.rate_interval or (None, None))
    if line == ROBUST_ACCURACY_ROW:
        return rates.robust_accuracy, *robust_interval(model.audit, rates)
    if line not in rates.flipped or line in rates.tried or not summary.correct:
        return None, None, None
    return 100.0 * rates.flipped[line] / summary.correct, None, None


#: What is said of an audit that knew of no strengths.
_BEFORE_STRENGTHS = ", by an earlier version that tried less than strength standard (its robust accuracy is too high)"


def _images_notes(models: Iterable[AuditedModel]) -> list[str]:
    """Say what was audited: how many images, how many of them correct, against which regular model."""
    told: dict[str, list[str]] = {}
    for model in models:
        record, summary = model.audit.record, model.audit.summary
        against = f", with images transferred from {short_name(record.against.name)}" if record.against else ""
        tried = f", strength {summary.strength}" if summary.strength else _BEFORE_STRENGTHS
        what = f"{summary.images:,} test images of {record.data.name}{against}{tried}"
        told.setdefault(what, []).append(f"{model.short} ({summary.correct:,} correct)")
    return [f"Audited on the first {what}: {', '.join(names)}." for what, names in told.items()]
