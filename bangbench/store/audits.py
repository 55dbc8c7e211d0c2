"""The record of an audit: results/NAME/audit.json, beside audit.parquet with one row per image."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bangbench.store.records import Count, DataInfo, ModelInfo, Moments, Percent, Record

#: A claim is sound, rests on too few images to say, is to be doubted, or its attack was kept from working.
Verdict = Literal["sound", "inconclusive", "suspect", "masked"]

#: What a check found: nothing, something worth knowing, a reason for a verdict; or why it could not be made.
Outcome = Literal["passed", "note", "inconclusive", "suspect", "masked", "not-run"]

#: From good to bad: too few images to say is no answer to what makes a claim wrong whatever the number of images.
VERDICTS: tuple[Verdict, ...] = ("sound", "inconclusive", "suspect", "masked")

#: The claim that the model's predictions mean what they seem to: accuracy, and the rates under random noise.
PREDICTIONS = "predictions"

#: The claim that no attack within a budget flips more images than the worst case over all attacks.
WORST_CASE = "worst-case"


class Check(BaseModel):
    """One check and what it found.

    code: its reason code; claims: the claims that the outcome concerns; evidence: a sentence with the numbers, which
    `numbers` holds by name; count and images: how many images show it, and the first few of them (places in the test
    split); meaning, advice: what it means and what to do, where there is something to do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    outcome: Outcome
    claims: tuple[str, ...] = ()
    evidence: str
    numbers: dict[str, float | None] = {}
    count: int | None = None
    images: tuple[int, ...] = ()
    meaning: str | None = None
    advice: str | None = None


class ClaimVerdict(BaseModel):
    """The verdict on one claim: `predictions`, an attack's rate by its name, or `worst-case`.

    rate: flipped images in percent of the correct ones, at the largest budget where the attack has one (accuracy in
    percent for `predictions`); linf: over the flipped images of an attack along a line, in grey levels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    claim: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    rate: Percent | None
    linf: Moments | None = None


class BudgetRates(BaseModel):
    """What each attack does within one L_inf budget.

    budget: grey levels; flipped: images by attack; tried: how many images an attack was given, where those were only
    what the others had left, so that the share of flipped ones is not its own rate; worst_case: images that any attack
    flips within this budget or a smaller one; rate: those in percent of the correct images, with its 95 % Wilson
    interval; robust_accuracy: images that are correct and stay so, in percent of all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: Annotated[int, Field(ge=1, le=255)]
    flipped: dict[str, Count]
    tried: dict[str, Count] = {}
    worst_case: Count
    rate: Percent | None
    rate_interval: tuple[Percent, Percent] | None
    robust_accuracy: Percent


class AuditSummary(BaseModel):
    """The verdict on a model, claim by claim, and everything it rests on; `verdict` is the worst of the claims'.

    strength: how hard was tried, None in audits that knew of no strengths and did less than `standard`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    verdict: Verdict
    reasons: tuple[str, ...]
    strength: str | None = None
    accuracy: Percent
    images: Count
    correct: Count
    budgets: tuple[BudgetRates, ...]
    claims: tuple[ClaimVerdict, ...]
    checks: tuple[Check, ...]
    forwards: int
    seconds: float

    def claim(self, name: str) -> ClaimVerdict | None:
        """Return the verdict on one claim, None where the audit did not look into it."""
        return next((claim for claim in self.claims if claim.claim == name), None)


class AuditRecord(Record):
    """results/NAME/audit.json."""

    kind: Literal["audit"] = "audit"
    model: ModelInfo
    against: ModelInfo | None = None
    data: DataInfo
    summary: AuditSummary | None = None
