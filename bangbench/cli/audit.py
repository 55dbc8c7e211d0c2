"""`bangbench audit`."""

from __future__ import annotations

from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bangbench.auditing.spec import AuditSpec
from bangbench.cli.before import check_models
from bangbench.cli.options import command
from bangbench.cli.output import Output, complain
from bangbench.store.audits import PREDICTIONS, WORST_CASE, AuditRecord, AuditSummary, BudgetRates, Check, ClaimVerdict

_STYLES = {
    "sound": "green",
    "inconclusive": "magenta",
    "suspect": "yellow",
    "masked": "bold red",
    "note": "cyan",
}

#: What explains the reason codes.
_CODES = "bangbench explain CODE"


def run_audit(specs: list[AuditSpec], output: Output) -> None:
    """Tell whether a model is robust or its gradients are gone, with the evidence.

    A low attack rate is worth nothing until the attack is known to have worked. Every claim about a model is found
    sound, suspect or masked (or inconclusive, from fewer than 30 correct images), from checks of the model and its
    gradients, from attacks with and without what masks them, and from stronger attacks within L_inf budgets; the worst
    case per image is the number that counts.
    """
    check_models(specs)
    from bangbench.auditing.run import audit

    records = []
    for spec in specs:
        records.append(audit(spec, output.progress()))
        if not output.json and not output.quiet:
            print_audit(records[-1], output.console())
    if output.json:
        output.print_json(audit_json(records))
    unsound = [record.model.name for record in records if _summary(record).verdict != "sound"]
    if unsound and specs[0].strict:
        complain(f"not sound: {', '.join(unsound)}")
        raise typer.Exit(1)


def audit_json(records: list[AuditRecord]) -> dict[str, Any]:
    """Return what ``--json`` prints: percent and grey levels, one entry per model."""
    return {
        "schema": 1,
        "models": {
            record.model.name: {
                "data": record.data.name,
                "against": record.against.name if record.against else None,
                **_summary(record).model_dump(mode="json"),
            }
            for record in records
        },
    }


def _summary(record: AuditRecord) -> AuditSummary:
    if record.summary is None:
        raise ValueError(f"the audit of {record.model.name} is not finished")
    return record.summary


def print_audit(record: AuditRecord, console: Console) -> None:
    """Print the answer in a sentence, the claims, the rates within each budget, and every finding."""
    from bangbench.store.headline import headline

    summary = _summary(record)
    console.print(Text(headline(record.model.name, summary), f"bold {_STYLES[summary.verdict]}"), soft_wrap=True)
    console.print(_images_line(record, summary))
    console.print(claims_table(summary))
    console.print(budgets_table(summary))
    findings = [check for check in summary.checks if check.outcome in _STYLES]
    for check in findings:
        _print_finding(check, console)
    passed = sum(check.outcome == "passed" for check in summary.checks)
    left_out = [check.code for check in summary.checks if check.outcome == "not-run"]
    console.print(
        f"{passed} of {len(summary.checks)} checks passed; what a reason means: {_CODES}"
        + (f"; not made: {', '.join(left_out)}" if left_out else ""),
        style="dim",
    )


def _images_line(record: AuditRecord, summary: AuditSummary) -> Text:
    beside = f", against {record.against.name}" if record.against else ""
    return Text(
        f"{record.data.name}, {summary.images:,} images, {summary.correct:,} correct ({summary.accuracy:.2f} %), all "
        f"of them attacked{beside}; {summary.seconds:.0f} s"
    )


def claims_table(summary: AuditSummary) -> Table:
    """Return one row per claim: rate in percent, L_inf in grey levels, verdict, reasons."""
    title = "What each number is worth; sound: it means what it says, be the model robust or not"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="dim")
    table.add_column("Claim", overflow="fold")
    for header in ("Rate %", "L∞"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Reasons", overflow="fold", min_width=12)
    for claim in summary.claims:
        linf = "-" if claim.linf is None or claim.linf.mean is None else f"{claim.linf.mean:.1f}"
        verdict = Text(claim.verdict, style=_STYLES[claim.verdict])
        table.add_row(_claim_name(claim, summary), _percent(claim.rate), linf, verdict, ", ".join(claim.reasons))
    return table


def _claim_name(claim: ClaimVerdict, summary: AuditSummary) -> str:
    """Return the claim with the budget of its rate, where it has one."""
    from bangbench.auditing.claims import line_attacks

    if claim.claim == PREDICTIONS:
        return "accuracy, noise"
    if claim.claim in line_attacks() or not summary.budgets:
        return claim.claim
    within = f"{claim.claim}, L∞ ≤ {summary.budgets[-1].budget}"
    return f"{within} ({_tried(summary)})" if claim.claim == WORST_CASE or summary.strength == "quick" else within


def _tried(summary: AuditSummary) -> str:
    """Return how hard was tried, in a word or two; audits of earlier versions knew of no strengths."""
    return summary.strength or "an earlier version"


def budgets_table(summary: AuditSummary) -> Table:
    """Return flipped images in percent of the correct ones: a row per attack, a column per budget.

    Of an attack that tried only what the others had left, they are counted.
    """
    title = "Flipped within each L∞ budget, percent of the correct images (grey levels; share of the range)"
    title += f"; strength: {_tried(summary)}"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="dim")
    table.add_column("Attack", no_wrap=True)
    for rates in summary.budgets:
        table.add_column(f"{rates.budget} ({rates.budget / 255.0:.2g})", justify="right", no_wrap=True)
    names = dict.fromkeys(name for rates in summary.budgets for name in rates.flipped)
    for name in names:
        table.add_row(name, *(_flipped(name, rates, summary.correct) for rates in summary.budgets))
    table.add_row("worst case per image", *(_percent(rates.rate) for rates in summary.budgets), style="bold")
    table.add_row("robust accuracy, of all", *(_percent(rates.robust_accuracy) for rates in summary.budgets))
    return table


def _flipped(name: str, rates: BudgetRates, correct: int) -> str:
    count = rates.flipped.get(name)
    if count is not None and name in rates.tried:
        return f"{count:,} of {rates.tried[name]:,} left"
    return _percent(None if count is None or not correct else 100.0 * count / correct)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _print_finding(check: Check, console: Console) -> None:
    concerned = f" [{', '.join(check.claims)}]" if check.claims and check.outcome != "note" else ""
    console.print(Text.assemble((check.outcome, _STYLES[check.outcome]), f" {check.code}{concerned}: {check.evidence}"))
    if check.images:
        more = ", ..." if check.count and check.count > len(check.images) else ""
        shown = ", ".join(map(str, check.images))
        console.print(Padding(Text(f"Images: {shown}{more}", style="dim"), (0, 0, 0, 2), expand=False))
    for text in (check.meaning, check.advice):
        if text and check.outcome != "note":
            console.print(Padding(Text(text), (0, 0, 0, 2), expand=False))


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "audit",
        AuditSpec,
        run_audit,
        arguments=("model",),
        repeated="model",
        example="bangbench audit table1/R0 table1/B1 --against table1/R0",
    )
