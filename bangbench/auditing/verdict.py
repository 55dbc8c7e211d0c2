"""From everything that was run and checked to the summary of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bangbench.attacks.registry import ATTACKS
from bangbench.attacks.spec import Strength
from bangbench.auditing.battery import worst_case
from bangbench.auditing.claims import all_claims, ball_attacks, judge, worst
from bangbench.auditing.evidence import Evidence
from bangbench.auditing.masking import LineRun
from bangbench.auditing.subject import Subject
from bangbench.core.statistics import wilson_interval
from bangbench.store.audits import PREDICTIONS, WORST_CASE, AuditSummary, BudgetRates, Check, ClaimVerdict
from bangbench.store.records import Moments


class Counted(NamedTuple):
    """What an audit cost: forward passes of single images, seconds."""

    forwards: int
    seconds: float


def summarise(
    subject: Subject, evidence: Evidence, checks: Sequence[Check], strength: Strength, counted: Counted
) -> AuditSummary:
    """Return rates in percent, the verdict on every claim, and the model's: the worst of the claims'."""
    budgets = tuple(_rates_within(subject, evidence, budget) for budget in evidence.budgets)
    claims = tuple(_claim(subject, evidence, budgets, checks, claim) for claim in _judged(evidence, strength))
    verdict = worst(claim.verdict for claim in claims)
    return AuditSummary(
        verdict=verdict,
        reasons=tuple(dict.fromkeys(code for claim in claims if claim.verdict == verdict for code in claim.reasons)),
        strength=strength,
        accuracy=_accuracy(subject),
        images=len(subject.labels),
        correct=subject.correct,
        budgets=budgets,
        claims=claims,
        checks=tuple(checks),
        forwards=counted.forwards,
        seconds=counted.seconds,
    )


def _judged(evidence: Evidence, strength: Strength) -> list[str]:
    """Return the claims that the audit looked into; attacks that could not be run are judged without a rate.

    No claim are attacks that need a model to copy from where there is none, or that this strength leaves out.
    """
    left_out = set()
    for name in ball_attacks():
        kind = ATTACKS.load(name)
        if kind.strengths.get(strength, {}) is None or ("source" in kind.needs and evidence.no_transfer):
            left_out.add(name)
    return [claim for claim in all_claims() if claim not in left_out]


def _accuracy(subject: Subject) -> float:
    return 100.0 * subject.correct / len(subject.labels)


def _rates_within(subject: Subject, evidence: Evidence, budget: int) -> BudgetRates:
    """Count within one budget; an attack along a line counts with the images whose L_inf is within it."""
    correct = subject.correct
    flipped = {name: int((run.linf <= budget).sum()) for name, run in evidence.lines.items()}
    inside = {name: run for (name, within), run in evidence.battery.items() if within == budget}
    flipped |= {name: int(run.flipped.sum()) for name, run in inside.items()}
    fallen = int(worst_case(evidence.lines, evidence.battery, budget, correct).sum())
    return BudgetRates(
        budget=budget,
        flipped=flipped,
        tried={name: int(run.tried.sum()) for name, run in inside.items() if not run.from_scratch},
        worst_case=fallen,
        rate=100.0 * fallen / correct if correct else None,
        rate_interval=wilson_interval(fallen, correct),
        robust_accuracy=100.0 * (correct - fallen) / len(subject.labels),
    )


def _claim(
    subject: Subject, evidence: Evidence, budgets: Sequence[BudgetRates], checks: Sequence[Check], claim: str
) -> ClaimVerdict:
    verdict, reasons = judge(claim, checks)
    line = evidence.lines.get(claim)
    rate: float | None
    if claim == PREDICTIONS:
        rate = _accuracy(subject)
    elif claim == WORST_CASE:
        rate = budgets[-1].rate
    elif line is not None:
        rate = line.rate
    else:
        last = budgets[-1]
        count = None if claim in last.tried else last.flipped.get(claim)
        rate = None if count is None or not subject.correct else 100.0 * count / subject.correct
    return ClaimVerdict(claim=claim, verdict=verdict, reasons=reasons, rate=rate, linf=_moments(line))


def _moments(line: LineRun | None) -> Moments | None:
    if line is None or not line.flipped.any():
        return None
    distances = line.linf[line.flipped]
    return Moments(mean=float(distances.mean()), std=float(distances.std()))
