"""What to know beside a number: the sentences under tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bangbench.reporting.experiments import LEVELS, NOT_AUDITED, Experiment, ModelResults, short_name
from bangbench.reporting.table import interval_text, number
from bangbench.store.audits import PREDICTIONS, VERDICTS, WORST_CASE, AuditSummary

#: A gap in rate between an attack and its twin, in percentage points, from which on it is put into words.
RATE_GAP = 5.0

_TITLES = {"fgs": "FGS", "fgs-unmasked": "FGS-unmasked", "hc1": "HC1", "hc1-unmasked": "HC1-unmasked"}

VERDICT_WORDS = (
    "sound: nothing speaks against the number, be it high or low; suspect: something does; masked: the attack was kept "
    "from working, so its rate is no robustness; inconclusive: too few images to say"
)
#: What is said of an audit that knew of no strengths.
_BEFORE_STRENGTHS = ", by an earlier version that tried less than strength standard (its robust accuracy is too high)"


def attack_title(attack: str) -> str:
    """Return an attack's name as headings print it: FGS for fgs; the names of other attacks stay as they are."""
    return _TITLES.get(attack, attack)


def left_out_notes(experiment: Experiment) -> tuple[str, ...]:
    """Return sentences that name the runs without numbers yet, and those on fewer images than others of their model."""
    runs = ", ".join(f"{short_name(item.name)} {item.run}" for item in experiment.unfinished)
    fewer = ", ".join(
        f"{short_name(item.name)} {item.record.attack} ({item.record.data.images:,})" for item in experiment.fewer
    )
    return (
        *([f"Started but not finished, so not in the tables: {runs}."] if runs else []),
        *([f"Not in the tables, since the same model was attacked on more images: {fewer}."] if fewer else []),
    )


def audit_notes(
    experiment: Experiment, claims: Iterable[str], models: Iterable[ModelResults] | None = None
) -> tuple[str, ...]:
    """Return what to know under a table that prints these claims: what is masked, what is not audited.

    models: those printed (None: those that were attacked). Ends with the runs that are left out.
    """
    printed = list(dict.fromkeys(claims))
    listed = list({model.name: model for model in (experiment.attacked if models is None else models)}.values())
    marks = (f"Audit: whether a number means what it seems to. {_capital(VERDICT_WORDS)}.",)
    return (
        *(marks if experiment.audited else ()),
        *_masked_note(listed, printed),
        *_missing_notes(experiment, listed, printed),
        *left_out_notes(experiment),
    )


def _masked_note(models: Sequence[ModelResults], claims: Sequence[str]) -> tuple[str, ...]:
    parts = [
        f"{model.id} ({', '.join(masked)}): {worst_case_text(model.audited)}"
        for model in models
        if model.audited is not None and (masked := [claim for claim in claims if model.is_masked(claim)])
    ]
    return (f"Masked, with the worst case over all attacks of the audit: {'; '.join(parts)}.",) if parts else ()


def _missing_notes(experiment: Experiment, models: Sequence[ModelResults], claims: Sequence[str]) -> tuple[str, ...]:
    missing = [model for model in models if model.audit is None]
    notes = []
    if missing:
        notes.append(
            f"Not audited: {', '.join(model.id for model in missing)}; a low rate may be robustness or a gradient "
            f"that is gone. To tell: {how_to_audit(experiment, missing)}"
        )
    beyond = [
        f"{model.id} {claim}"
        for model in experiment.models
        for claim in claims
        if model.audit is not None and claim in model.attacks and model.verdict(claim) == NOT_AUDITED
    ]
    return (*notes, *([f"Not looked into by the audit: {', '.join(beyond)}."] if beyond else []))


def how_to_audit(experiment: Experiment, models: Sequence[ModelResults]) -> str:
    """Return the command that audits the first of these models, against a regular one where there is one."""
    regular = next((model.name for model in experiment.models if model.model.method == "regular"), None)
    against = f" --against {regular}" if regular is not None and regular != models[0].name else ""
    return f"bangbench audit {models[0].name}{against}"


def audited_images(models: Iterable[ModelResults]) -> list[str]:
    """Say what was audited: how many images, how many of them correct, against which model, how hard was tried."""
    told: dict[str, list[str]] = {}
    for model in models:
        if model.audit is None:
            continue
        record, summary = model.audit.record, model.audit.summary
        against = f", with images transferred from {short_name(record.against.name)}" if record.against else ""
        tried = f", strength {summary.strength}" if summary.strength else _BEFORE_STRENGTHS
        what = f"{summary.images:,} test images of {record.data.name}{against}{tried}"
        told.setdefault(what, []).append(f"{model.id} ({summary.correct:,} correct)")
    return [f"Audited on the first {what}: {', '.join(names)}." for what, names in told.items()]


def budget_text(budget: float) -> str:
    """Return a budget in grey levels with its share of the range: ``76 (0.3)``."""
    return f"{budget:g} ({budget / LEVELS:.2g})"


def worst_case_text(summary: AuditSummary) -> str:
    """Return the worst case within the largest budget: ``99.90 % [...] flipped at L_inf 76 (0.3)``."""
    worst = max(summary.budgets, key=lambda rates: rates.budget, default=None)
    if worst is None:
        return "no budget tried"
    ends = "" if worst.rate_interval is None else f" {interval_text(worst.rate_interval, 2)}"
    quick = ", quick" if summary.strength == "quick" else ""
    return f"{number(worst.rate, 2)} %{ends} flipped at L∞ {budget_text(worst.budget)}{quick}"


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
                by_verdict.setdefault(model.verdict(claim), []).append(claim)
        for verdict, names in by_verdict.items():
            which = "" if len(by_verdict) == 1 else f" {', '.join(names)}"
            parts.setdefault(verdict, []).append(f"{model.id}{which}")
    order = [verdict for verdict in (*reversed(VERDICTS), NOT_AUDITED) if verdict in parts]
    return (f"Audit: {'; '.join(f'{verdict}: ' + ', '.join(parts[verdict]) for verdict in order)}.",)


def audit_mark(model: ModelResults, attack: str) -> str:
    """Return `` (audit: masked)`` to set behind a number in a sentence, nothing for a model without an audit."""
    return "" if model.audit is None else f" (audit: {model.verdict(attack)})"


def not_shown(left_out: Iterable[str], without_images: Iterable[str] = ()) -> tuple[str, ...]:
    """Return a sentence that names what a figure of single images leaves out, and the models that have none."""
    lists = (("not shown", ", ".join(left_out)), ("no single images", ", ".join(without_images)))
    told = "; ".join(f"{what}: {names}" for what, names in lists if names)
    return (f"{_capital(told)}.",) if told else ()


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
