"""The findings of the audits as the page shows them: what needs attention in full, what passed in short."""

from __future__ import annotations

from typing import NamedTuple

from bangbench.reporting.audit_rows import AuditedModel, audited_models
from bangbench.reporting.finding_rows import images_text, sources_of, worst_first
from bangbench.reporting.groups import Group
from bangbench.store.audits import VERDICTS, Check


class ShownFinding(NamedTuple):
    """One check; outcome: masked, suspect, note or not-run; the other texts are empty where there is nothing to say."""

    code: str
    outcome: str
    claims: str
    evidence: str
    meaning: str
    advice: str
    images: str
    sources: str


class ShownPassed(NamedTuple):
    """One check that found nothing."""

    code: str
    evidence: str


class ShownModel(NamedTuple):
    """What the audit of one model found."""

    name: str
    verdict: str
    findings: tuple[ShownFinding, ...]
    passed: tuple[ShownPassed, ...]

    @property
    def needing_attention(self) -> int:
        """Return how many findings decide the verdict."""
        return sum(finding.outcome in VERDICTS[1:] for finding in self.findings)


def shown_findings(group: Group) -> tuple[ShownModel, ...]:
    """Return the findings of each audited model, worst first."""
    return tuple(map(_model, audited_models(group)))


def _model(model: AuditedModel) -> ShownModel:
    checks = worst_first(model)
    return ShownModel(
        name=model.short,
        verdict=model.audit.summary.verdict,
        findings=tuple(_finding(check) for check in checks if check.outcome != "passed"),
        passed=tuple(ShownPassed(check.code, check.evidence) for check in checks if check.outcome == "passed"),
    )


def _finding(check: Check) -> ShownFinding:
    return ShownFinding(
        code=check.code,
        outcome=check.outcome.replace("-", " "),
        claims=", ".join(check.claims),
        evidence=check.evidence,
        meaning=check.meaning or "",
        advice=check.advice or "",
        images="" if check.count is None else images_text(check.count, check.images),
        sources=", ".join(sources_of(check)),
    )
