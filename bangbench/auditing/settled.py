"""Gradients that look wrong and lead attacks to every image all the same: worth a note, and no reason for a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from bangbench.auditing.claims import ABOUT_GRADIENTS, gradient_ball_attacks, gradient_claims, line_attacks
from bangbench.auditing.evidence import Evidence
from bangbench.store.audits import VERDICTS, WORST_CASE, Check

#: Percent of the correct images that an attack must flip within the largest budget to have worked, and at any distance
#: along a line, where the wrong direction, too, changes a class in the end.
WORKS, LINE_WORKS = 99.0, 90.0

#: Alarms that something finds what the attacks with gradients do not: these have not worked, whatever their rate.
_FAILING = (
    *("one-step-beats-many", "gradient-free-beats-gradient", "transfer-beats-direct", "noise-beats-attack"),
    *("unbounded-attack-fails", "not-converged"),
)


def settled(checks: Sequence[Check], compared: Sequence[Check], evidence: Evidence) -> list[Check]:
    """Return `checks`, of which those about gradients concern no attack that worked; compared: those of the attacks.

    A check that concerns none any more is a note.
    """
    working = working_claims(evidence, compared)
    return [_settled(check, working, evidence) if check.code in ABOUT_GRADIENTS else check for check in checks]


def working_claims(evidence: Evidence, compared: Sequence[Check]) -> frozenset[str]:
    """Return the claims whose attacks follow gradients and worked; none where an alarm says that those fail."""
    rates = _rates(evidence)
    if max(rates.values(), default=0.0) < WORKS:
        return frozenset()
    if any(check.code in _FAILING and check.outcome in VERDICTS[1:] for check in compared):
        return frozenset()
    balls = {name for name in gradient_ball_attacks() if rates.get(name, WORKS) >= WORKS}
    lines = {name for name in line_attacks() if name in evidence.lines and evidence.lines[name].rate >= LINE_WORKS}
    return frozenset((*balls, *lines, WORST_CASE)) & frozenset(gradient_claims())


def _rates(evidence: Evidence) -> dict[str, float]:
    """Return the rates within the largest budget of attacks with gradients that tried every image, in percent."""
    runs = {name: evidence.battery.get((name, evidence.budgets[-1])) for name in gradient_ball_attacks()}
    return {
        name: 100.0 * float(run.flipped.mean())
        for name, run in runs.items()
        if run is not None and run.from_scratch and len(run.flipped)
    }


def _settled(check: Check, working: frozenset[str], evidence: Evidence) -> Check:
    if check.outcome not in VERDICTS[1:] or not working & set(check.claims):
        return check
    left = tuple(claim for claim in check.claims if claim not in working)
    most = max(_rates(evidence).values())
    within = f"within {evidence.budgets[-1]} grey levels"
    said = f"{check.evidence} Attacks that follow these gradients flip up to {most:.1f} % {within}"
    if left:
        return check.model_copy(update={"claims": left, "evidence": f"{said}; this concerns those that do not."})
    return check.model_copy(update={"outcome": "note", "evidence": f"{said} all the same."})
