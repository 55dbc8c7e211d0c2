"""What the papers of the defences claim of them, beside what the audits of this bench leave of it."""

from __future__ import annotations

import tomllib
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from bangbench.core.statistics import Interval, newcombe_interval
from bangbench.reporting.experiments import Experiment, ModelResults
from bangbench.reporting.frames import Frames, Values
from bangbench.reporting.table import Table, make_table, real, words
from bangbench.store.audits import WORST_CASE, AuditSummary

#: Points by which a method may fall behind one that it is as good as.
_AS_GOOD = 10.0


class PublishedClaim(BaseModel):
    """A row of defences.toml: one method beside another one, of whatever net or (`net`) of that one.

    budget: within which our numbers are compared, as a share of the range; clean accuracy has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    beside: str
    relation: Literal["more", "as", "more accurate"]
    published: str
    source: str
    budget: float = 0.3
    net: str | None = None


class _Ours(NamedTuple):
    """Numbers in percent of one method and of the other one, the interval of their difference, and what it says."""

    values: tuple[float, float]
    interval: Interval
    verdict: str


def defence_claims(experiment: Experiment, frames: Frames) -> Table | None:
    """Return one row per published claim about two audited models of this experiment; None where there is none."""
    rows = [
        _row(experiment, claim, model, other)
        for claim in _published()
        if (model := _model(experiment, claim.method, claim)) and (other := _model(experiment, claim.beside, claim))
    ]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(_kind(row) for row in rows).most_common())
    return make_table(
        f"{experiment.name}-defence-claims",
        f"{experiment.title}; what the papers of the defences claim, and what is left of it here",
        rows,
        (
            words("Method"),
            words("Beside"),
            words("Claimed"),
            words("Published"),
            words("Source"),
            real("Ours (%)", "ours_percent", 1),
            real("Beside it (%)", "beside_percent", 1),
            real("Difference (points)", ("difference_points", "difference_low_points", "difference_high_points"), 1),
            words("Verdict"),
        ),
        (
            f"Of {len(rows)} claims: {counts}. The papers' nets, images, budgets, training are others: no number can "
            "be compared, only which of two methods holds better when both are trained and attacked alike.",
            "Ours: robust accuracy under all attacks of the audit, or clean accuracy where that is claimed. A claim "
            "agrees where the 95 % interval of the difference (Newcombe's, as of independent images) is on its side "
            f"('as robust': above -{_AS_GOOD:.0f} points), and differs where it is on the other.",
        ),
    )


@cache
def _published() -> tuple[PublishedClaim, ...]:
    content = files("bangbench.paper").joinpath("defences.toml").read_text(encoding="utf-8")
    return tuple(map(PublishedClaim.model_validate, tomllib.loads(content)["claim"]))


def _model(experiment: Experiment, method: str, claim: PublishedClaim) -> ModelResults | None:
    """Return the audited model of a method: of several the one called after it, or of the first seed."""
    found = [
        model
        for model, audit in experiment.audits
        if model.model.method == method
        and (claim.net or experiment.models[0].model.net) == model.model.net
        and _count(claim, audit) is not None
    ]
    return min(found, key=lambda model: (model.id != method, model.model.seed or 0, len(model.id)), default=None)


def _row(experiment: Experiment, claim: PublishedClaim, model: ModelResults, other: ModelResults) -> Values:
    relation = {"more": "more robust", "as": "as robust"}.get(claim.relation, claim.relation)
    ours = _compared(claim, model, other)
    values, interval, verdict = ours if isinstance(ours, _Ours) else ((None, None), (None, None), ours)
    return {
        "method": model.id,
        "beside": other.id,
        "data": experiment.data.name,
        "claimed": relation if claim.relation == "more accurate" else f"{relation} within {claim.budget:g}",
        "published": claim.published,
        "source": claim.source,
        "ours_percent": values[0],
        "beside_percent": values[1],
        "difference_points": None if values[0] is None or values[1] is None else values[0] - values[1],
        "difference_low_points": interval[0],
        "difference_high_points": interval[1],
        "verdict": verdict,
    }


def _compared(claim: PublishedClaim, *models: ModelResults) -> _Ours | str:
    """Return the numbers of both models and what they say of the claim, or why they say nothing."""
    for each in models:
        if claim.relation != "more accurate" and each.verdict(WORST_CASE) not in ("sound", "inconclusive"):
            return f"not comparable: the worst case of {each.id} is {each.verdict(WORST_CASE)}"
    audits = [model.audited for model in models if model.audited is not None]
    (ours, trials), (others, their_trials) = ((_count(claim, audit) or 0, audit.images) for audit in audits)
    interval = newcombe_interval(ours, trials, others, their_trials) or (-100.0, 100.0)
    values = 100.0 * ours / trials, 100.0 * others / their_trials
    return _Ours(values, interval, _judged(claim.relation, interval))


def _count(claim: PublishedClaim, summary: AuditSummary) -> int | None:
    """Return how many images are right, and stay so within the claim's budget where robustness is claimed."""
    if claim.relation == "more accurate":
        return summary.correct
    level = int(claim.budget * 255)
    return next((summary.correct - each.worst_case for each in summary.budgets if each.budget == level), None)


def _judged(relation: str, interval: Interval) -> str:
    low, high = interval
    if high < 0.0:
        return "differs"
    if low > (-_AS_GOOD if relation == "as" else 0.0):
        return "agrees"
    return "no difference found" if relation != "as" else "not comparable: too few images"


def _kind(row: Values) -> str:
    return str(row["verdict"]).partition(":")[0]
