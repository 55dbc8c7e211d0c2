"""The answer of an audit in one sentence, the same in a terminal, in a notebook and on a page."""

from __future__ import annotations

from typing import NamedTuple

from bangbench.core.statistics import wilson_interval
from bangbench.store.audits import PREDICTIONS, VERDICTS, WORST_CASE, AuditSummary, BudgetRates, Verdict

#: What a verdict says of the numbers beside it.
WORDS: dict[Verdict, str] = {
    "sound": "the numbers can be trusted",
    "inconclusive": "too few images to say whether the numbers can be trusted",
    "suspect": "the numbers are in doubt",
    "masked": "attacks were kept from working, so a low rate is no robustness",
}


class RobustAccuracy(NamedTuple):
    """Images that are classified correctly and stay so, in percent of all n, with the ends of the 95 % interval."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.1f} % [{self.low:.1f}, {self.high:.1f}]"

    def __repr__(self) -> str:
        return f"{self} (n = {self.n:,})"


def robust_accuracy(summary: AuditSummary, rates: BudgetRates) -> RobustAccuracy:
    """Return the share of all images that no attack flips within a budget, with Wilson's interval, in percent."""
    low, high = wilson_interval(summary.correct - rates.worst_case, summary.images) or (0.0, 100.0)
    return RobustAccuracy(rates.robust_accuracy, low, high, summary.images)


def headline(name: str, summary: AuditSummary) -> str:
    """Return robust accuracy under the worst case within the largest budget, and whether to believe it."""
    clean = f"clean {summary.accuracy:.1f} %, n = {summary.images:,}"
    if not summary.budgets:
        return f"{name}: accuracy {summary.accuracy:.1f} % (n = {summary.images:,}); {trust(summary)}"
    rates = summary.budgets[-1]
    robust = robust_accuracy(summary, rates)
    return f"{name}: robust accuracy {robust} within {rates.budget}/255 ({clean}); {trust(summary)}"


def trust(summary: AuditSummary) -> str:
    """Return in words whether the numbers mean what they seem to, and if not, why.

    The worst case may be sound where single attacks were kept from working: what they find is in it, and more.
    """
    worst_case = summary.claim(WORST_CASE)
    if summary.verdict == "sound":
        return WORDS["sound"]
    verdict = worst_case.verdict if worst_case is not None else summary.verdict
    if verdict != "sound":
        reasons = worst_case.reasons if worst_case is not None else summary.reasons
        return f"{WORDS[verdict]} ({', '.join(reasons)})" if reasons else WORDS[verdict]
    others = [claim for claim in summary.claims if claim.verdict != "sound"]
    worst = max((claim.verdict for claim in others), key=VERDICTS.index)
    names = ", ".join("accuracy" if claim.claim == PREDICTIONS else claim.claim for claim in others)
    return f"this worst case can be trusted, not so the rates of {names} (at worst {worst})"
