"""The verdict of an audit beside each number that it is about, and what to read where a rate is masked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bangbench.reporting.collect import FoundAudit
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.table import NOT_AUDITED, Cell, Show, decimals, number, value_and_verdict
from bangbench.store.audits import PREDICTIONS, VERDICTS, WORST_CASE, AuditSummary, BudgetRates, ClaimVerdict
from bangbench.store.records import ModelInfo

MASKED = "masked"

#: What ends the name of an attack's twin that nothing holds back.
UNMASKED = "-unmasked"

#: The grey levels of the range 0 to 255.
LEVELS = 255


def verdict_on(audit: FoundAudit | None, claim: str) -> str:
    """Return a verdict of `VERDICTS`; `NOT_AUDITED` without an audit, or where it did not look into the claim."""
    found = None if audit is None else audit.summary.claim(claim)
    return NOT_AUDITED if found is None else found.verdict


def worst_of(verdicts: Iterable[str]) -> str:
    """Return the worst verdict; one that is missing makes the whole `NOT_AUDITED`, unless another is bad."""
    order = (VERDICTS[0], NOT_AUDITED, *VERDICTS[1:])
    return max(verdicts, key=order.index, default=NOT_AUDITED)


def audit_of(group: Group, model: ModelInfo) -> FoundAudit | None:
    """Return the audit of a model that something was measured of in a group."""
    return group.audits.get(model.name)


def is_masked(model: ModelResults, attack: str) -> bool:
    """Tell whether an attack on a model was kept from working."""
    return verdict_on(model.audit, attack) == MASKED


def unmasked_claim(model: ModelResults, attack: str) -> ClaimVerdict | None:
    """Return what the audit says of the unmasked twin of an attack, None where it says nothing."""
    return None if model.audit is None else model.audit.summary.claim(f"{attack}{UNMASKED}")


def show_rate(group: Group, places: int = 2) -> Show:
    """Return what shows (rate, ..., verdict): the verdict only where some model of the group is audited."""
    return value_and_verdict(places) if group.audits else decimals(places)


def show_if_doubted(places: int) -> Show:
    """Return what shows (number, verdict): the verdict only where it is a bad one."""
    plain, judged = decimals(places), value_and_verdict(places)

    def show(cell: Cell) -> str:
        return judged(cell) if cell[-1] in VERDICTS[1:] else plain(cell)

    return show


def largest_budget(summary: AuditSummary) -> BudgetRates | None:
    """Return what happened within the largest budget, None where none was tried."""
    return max(summary.budgets, key=lambda rates: rates.budget, default=None)


def budget_text(budget: int) -> str:
    """Return a budget in grey levels with its share of the range: ``76 (0.3)``."""
    return f"{budget} ({budget / LEVELS:.2g})"


def rate_text(rate: float | None, interval: tuple[float, float] | None) -> str:
    """Return a rate with its interval: ``99.90 % [99.43, 99.98]``."""
    ends = "" if interval is None else f" [{number(interval[0], 2)}, {number(interval[1], 2)}]"
    return f"{number(rate, 2)} %{ends}"


def worst_case_text(audit: FoundAudit) -> str:
    """Return the worst case within the largest budget: ``99.90 % [...] flipped at L_inf 76 (0.3)``."""
    worst = largest_budget(audit.summary)
    if worst is None:
        return "no budget tried"
    quick = ", quick" if audit.summary.strength == "quick" else ""
    return f"{rate_text(worst.rate, worst.rate_interval)} flipped at L∞ {budget_text(worst.budget)}{quick}"


def audit_notes(group: Group, claims: Iterable[str], models: Iterable[str] | None = None) -> tuple[str, ...]:
    """Return what to know under a table that prints these claims: what is masked, and what is not audited.

    models: the names of those printed (None: those that were attacked).
    """
    printed = list(dict.fromkeys(claims))
    names = list(dict.fromkeys(models if models is not None else (model.name for model in group.attacked)))
    return (*_marks_note(group), *_masked_note(group, names, printed), *_missing_notes(group, names, printed))


def attack_claims(group: Group) -> list[str]:
    """Return the attacks that were run on some model of a group."""
    return list(dict.fromkeys(name for model in group.models for name in model.attacks))


def verdicts_in_words(models: Iterable[ModelResults], claims: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for a caption: which of the models' numbers are masked, suspect, sound or not audited.

    Empty where none of the models is audited.
    """
    listed = list(models)
    if not any(model.audit for model in listed):
        return ()
    parts: dict[str, list[str]] = {}
    for model in listed:
        by_verdict: dict[str, list[str]] = {}
        for claim in claims:
            if claim in model.attacks or claim in (PREDICTIONS, WORST_CASE):
                by_verdict.setdefault(verdict_on(model.audit, claim), []).append(claim)
        for verdict, names in by_verdict.items():
            which = "" if len(by_verdict) == 1 else f" {', '.join(names)}"
            parts.setdefault(verdict, []).append(f"{short_name(model.name)}{which}")
    order = [verdict for verdict in (*reversed(VERDICTS), NOT_AUDITED) if verdict in parts]
    return (f"Audit: {'; '.join(f'{verdict}: ' + ', '.join(parts[verdict]) for verdict in order)}.",)


def audit_mark(model: ModelResults, attack: str) -> str:
    """Return `` (audit: masked)`` to set behind a number in a sentence, nothing for a model without an audit."""
    return "" if model.audit is None else f" (audit: {verdict_on(model.audit, attack)})"


def how_to_audit(group: Group, names: Sequence[str]) -> str:
    """Return the command that audits the first of these models, against a regular one where there is one."""
    regular = next((model.name for model in group.models if model.model.method == "regular"), None)
    against = f" --against {regular}" if regular is not None and regular != names[0] else ""
    return f"bangbench audit {names[0]}{against}"


def measured_names(group: Group) -> list[str]:
    """Return every model of a group, those too of which only a noise evolution was measured."""
    evolved = (info.name for found in group.noise for info in found.record.models)
    return list(dict.fromkeys([*(model.name for model in group.models), *evolved]))


def _marks_note(group: Group) -> tuple[str, ...]:
    if not group.audits:
        return ()
    return (
        "Audit: whether a number means what it seems to. Sound: nothing speaks against it, be it high or low; suspect: "
        "something does; masked: the attack was kept from working, so its rate is no robustness; inconclusive: too few "
        "images to say.",
    )


def _masked_note(group: Group, names: Sequence[str], claims: Sequence[str]) -> tuple[str, ...]:
    parts = []
    for name in names:
        audit = group.audits.get(name)
        masked = [claim for claim in claims if verdict_on(audit, claim) == MASKED]
        if audit is not None and masked:
            parts.append(f"{short_name(name)} ({', '.join(masked)}): {worst_case_text(audit)}")
    return (f"Masked, with the worst case over all attacks of the audit: {'; '.join(parts)}.",) if parts else ()


def _missing_notes(group: Group, names: Sequence[str], claims: Sequence[str]) -> tuple[str, ...]:
    missing = [name for name in names if name not in group.audits]
    notes = []
    if missing:
        notes.append(
            f"Not audited: {', '.join(map(short_name, missing))}; a low rate may be robustness or a gradient "
            f"that is gone. To tell: {how_to_audit(group, missing)}"
        )
    beyond = [
        f"{short_name(model.name)} {claim}"
        for model in group.models
        for claim in claims
        if model.audit is not None and claim in model.attacks and verdict_on(model.audit, claim) == NOT_AUDITED
    ]
    return (*notes, *([f"Not looked into by the audit: {', '.join(beyond)}."] if beyond else []))
