"""Tables of what the audits found: verdicts, and rates within budgets; and the one line of each model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from bangbench.auditing.reasons import SOURCES
from bangbench.reporting.experiments import LEVELS, MASKED, NOT_AUDITED, UNMASKED, Experiment, ModelResults
from bangbench.reporting.frames import OVERALL, Frames, Values, interval_fields, records_of
from bangbench.reporting.robustness import Held, linf_or_infinite
from bangbench.reporting.table import (
    VERDICT_WORDS,
    Column,
    Table,
    audited_images,
    budget_text,
    left_out_notes,
    make_table,
    number,
    real,
    spread,
    words,
    worst_case_text,
)
from bangbench.store.audits import WORST_CASE, AuditSummary, ClaimVerdict
from bangbench.store.headline import RobustAccuracy, robust_accuracy, trust

WORST_CASE_ROW = "worst case"
ROBUST_ACCURACY_ROW = "robust accuracy"

#: What the robust accuracy has in place of a rate and the ends of its interval.
_ROBUST = {
    "rate_percent": "robust_accuracy_percent",
    "rate_low_percent": "robust_low_percent",
    "rate_high_percent": "robust_high_percent",
}

#: The state of a model that is right hardly more often than by guessing: neither robust nor masked.
COLLAPSED = "collapsed"

#: What stands in the badge of a verdict: nobody shall read it as "robust".
BADGES = {
    "sound": "can be trusted",
    "inconclusive": "too few images",
    "suspect": "in doubt",
    "masked": "attacks masked",
    NOT_AUDITED: "not audited",
    COLLAPSED: "answers at random",
}

#: What stands where a verdict would.
NOT_CHECKED = "nobody has checked whether the attacks worked"


def verdict_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return the verdict on each claim about each audited model; None without audits."""
    fields = ("claim", "audit_verdict", "rate_percent", "linf_mean_grey_levels", "linf_std_grey_levels", "reasons")
    rows = [
        {"id": row["id"], "source": "audit"} | {field: row[field] for field in ("model", "data", "images", *fields)}
        for row in records_of(_of(frames.audits, experiment.models))
        if row["budget_grey_levels"] is None
    ]
    return make_table(
        f"{experiment.name}-verdicts",
        f"{experiment.title}; verdicts of the audit",
        rows,
        (
            words("ID"),
            words("Claim"),
            words("Verdict", "audit_verdict"),
            real("Rate (%)", "rate_percent", 2),
            spread("L∞", "linf", 2, "_grey_levels"),
            words("Reasons"),
        ),
        (
            *verdict_sentences(experiment.models),
            f"{VERDICT_WORDS[0].upper()}{VERDICT_WORDS[1:]}. Overall: the worst verdict on any claim.",
            "Predictions: accuracy in percent; its verdict holds for the rates under random noise, too. Other rates: "
            "percent of the correct images, of attacks with a budget at the largest one; L∞ (grey levels): mean ± "
            "standard deviation over the flipped images. Worst case: all attacks of the audit together. What a reason "
            "means: bangbench explain CODE; the evidence: bangbench audit MODEL, or the page.",
            *audited_images(experiment.models),
            *left_out_notes(experiment),
        ),
    )


def _of(frame: pd.DataFrame, models: Sequence[ModelResults]) -> pd.DataFrame:
    return frame[frame["model"].isin([model.name for model in models])]


def verdict_sentences(models: Sequence[ModelResults]) -> tuple[str, ...]:
    """Return what the verdicts come to: one sentence per model that is not sound, one about those that are."""
    audited = [(model, model.audited) for model in models if model.audited is not None]
    told = [_sentence(model, summary) for model, summary in audited if summary.verdict != "sound"]
    sound = [(model.id, worst_case_text(summary)) for model, summary in audited if summary.verdict == "sound"]
    if sound:
        names, worst = ", ".join(name for name, _ in sound), "; ".join(map(" ".join, sound))
        whose = ("is", "its") if len(sound) == 1 else ("are", "their")
        told.append(f"{names} {whose[0]} sound ({worst}): {whose[1]} rates mean what they say.")
    return tuple(told)


def _sentence(model: ModelResults, summary: AuditSummary) -> str:
    """Return what is wrong with a model, in the form ``subject (evidence): conclusion``."""
    reasons = ", ".join(summary.reasons) or "no reason given"
    worst = f"all attacks of the audit together: {worst_case_text(summary)}"
    masked = [claim for claim in summary.claims if claim.verdict == MASKED]
    if not masked:
        doubted = ", ".join(claim.claim for claim in summary.claims if claim.verdict != "sound")
        return f"{model.id} is {summary.verdict} in {doubted or OVERALL} ({reasons}): read with care; {worst}."
    names = ", ".join(claim.claim for claim in masked)
    rates = "; ".join(_against(model, claim) for claim in masked)
    what = "these rates are" if len(masked) > 1 else "this rate is"
    return f"{model.id} is masked under {names} ({rates}; {reasons}): {what} no robustness; {worst}."


def _against(model: ModelResults, claim: ClaimVerdict) -> str:
    """Return a masked number and, where the audit has one, that of the attack's unmasked twin."""
    twin = model.claim(f"{claim.claim}{UNMASKED}")
    shown = f"{claim.claim} {number(claim.rate, 2)} %"
    if claim.linf is not None and claim.linf.mean is not None:
        shown += f" at a mean L∞ of {number(claim.linf.mean, 1)}"
    if twin is None:
        return shown
    distance = "" if twin.linf is None else f" at {number(twin.linf.mean, 1)}"
    return f"{shown}, unmasked {number(twin.rate, 2)} %{distance}"


def budget_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return what each attack flips within each L_inf budget, models side by side; None where nothing was tried."""
    models = [model for model, summary in experiment.audits if summary.budgets]
    within = records_of(_of(frames.audits, models).dropna(subset="budget_grey_levels"))
    worst = [row | {"claim": WORST_CASE_ROW} for row in within if row["claim"] == WORST_CASE]
    robust = [
        row | {"claim": ROBUST_ACCURACY_ROW} | {rate: row[stem] for rate, stem in _ROBUST.items()} for row in worst
    ]
    lines = [*(row for row in within if row["claim"] != WORST_CASE), *worst, *robust]
    rows = []
    for budget, line in product(sorted({row["budget_grey_levels"] for row in within}), _claims(lines)):
        of_line = (row for row in lines if (row["budget_grey_levels"], row["claim"]) == (budget, line))
        found = {row["model"]: row for row in of_line if row["rate_percent"] is not None}
        if found:
            row = {"budget_grey_levels": int(budget), "budget_share": budget / LEVELS, "source": "audit"}
            row |= {"data": experiment.data.name, "attack": line}
            for model in models:
                values = (found.get(model.name, {}).get(rate) for rate in _ROBUST)
                row |= dict(zip(interval_fields(model.id, "_percent"), values, strict=True))
            rows.append(row)
    return make_table(
        f"{experiment.name}-budgets",
        f"{experiment.title}; flipped within an L∞ budget, in percent",
        rows,
        (
            Column("Budget", ("budget_grey_levels",), lambda cell: budget_text(float(cell[0] or 0)), left=True),
            words("Attack"),
            *(real(f"{_with_strength(model)} (%)", interval_fields(model.id, "_percent"), 2) for model in models),
        ),
        (
            "Budget: L∞ in grey levels, in brackets as a share of the range 0 to 255. Percent of the correct images "
            "that an attack flips within it, each attack from scratch; none for an attack that tried only what the "
            "others had left, which counts in the worst case.",
            "Worst case: images that any of the attacks flips within this budget or a smaller one, with the 95 % "
            "Wilson interval. Robust accuracy: percent of all images that are correct and stay so under all of them. "
            "Attacks that were not run could flip more.",
            *audited_images(experiment.models),
            *left_out_notes(experiment),
        ),
    )


def _claims(rows: Iterable[Values]) -> dict[str, None]:
    return dict.fromkeys(row["claim"] for row in rows)


def _with_strength(model: ModelResults) -> str:
    """Return a model's name, marked where its audit was a quick one."""
    return f"{model.id}, quick" if model.audited and model.audited.strength == "quick" else model.id


def passed_alike(summaries: Iterable[AuditSummary]) -> dict[tuple[str, str], int]:
    """Return code and evidence of the checks that passed alike in several audits, and in how many."""
    passed = ((each.code, each.evidence) for found in summaries for each in found.checks if each.outcome == "passed")
    counts = Counter(passed)
    return {key: counts[key] for key in sorted(counts) if counts[key] > 1}


def sources_note(checks: Sequence[Values]) -> tuple[str, ...]:
    """Return a sentence that names the sources of those checks that found something."""
    cited = {key for row in checks if row["outcome"] != "passed" for key in (row["sources"] or "").split("; ")}
    named = [f"{key}: {title}" for key, title in SOURCES.items() if key in cited]
    return (f"Sources. {'; '.join(named)}.",) if named else ()


class Standing(NamedTuple):
    """What a reader wants to know of a model first.

    clean: accuracy in percent; robust: under all attacks together by budget (grey levels), the smallest first, empty
    without an audit; fgs: what FGS alone would have said, robust accuracy in percent within the largest budget audited,
    or where no model is audited the percent of all images that it does not flip at any distance; noise: (sigma,
    flipped percent) at the largest.
    """

    model: ModelResults
    verdict: str
    meaning: str
    strength: str | None
    clean: float | None
    robust: dict[int, RobustAccuracy]
    fgs: float | None
    noise: tuple[float, float] | None

    @property
    def worst(self) -> RobustAccuracy | None:
        """Return the robust accuracy within the largest budget, None without an audit."""
        return self.robust[max(self.robust)] if self.robust else None

    @property
    def quick(self) -> str:
        """Return a mark for an audit that did not try hard."""
        return " (quick)" if self.strength == "quick" else ""


def standings(experiment: Experiment, frames: Frames | None = None) -> list[Standing]:
    """Return the models, those robust under the largest budget first, those without an audit last.

    frames: of which the noise is shown, too.
    """
    last = None if frames is None else frames.noise[frames.noise["is_last"]]
    largest = max((rates.budget for _, summary in experiment.audits for rates in summary.budgets), default=None)
    found = []
    for model in experiment.everyone:
        rows = [] if last is None else records_of(last[last["model"] == model.name])
        loudest = max(rows, key=lambda row: row["sigma_grey_levels"], default=None)
        summary = model.audited
        clean = summary.accuracy if summary else model.accuracy if model.attacks else None
        verdict, meaning = _state(model, clean)
        found.append(
            Standing(
                model=model,
                verdict=verdict,
                meaning=meaning,
                strength=None if summary is None else summary.strength or "before strengths",
                clean=clean,
                robust=_robust(model),
                fgs=_fgs_alone(model, largest),
                noise=None if loudest is None else (loudest["sigma_grey_levels"], loudest["flipped_percent"]),
            )
        )
    return sorted(found, key=lambda item: (-item.worst.value if item.worst else 1.0, -(item.clean or 0.0)))


def _state(model: ModelResults, clean: float | None) -> tuple[str, str]:
    """Return the audit's verdict or what stands in its place, and its meaning.

    A model has collapsed where it is right twice as often as by guessing or less, or less than ten points above it.
    """
    chance = 100.0 / model.model.classes
    if clean is not None and clean < min(2.0 * chance, chance + 10.0):
        return (
            COLLAPSED,
            f"right in {clean:.1f} % of the images, guessing in {chance:.1f} %: there is nothing to attack",
        )
    if model.audited is None:
        return NOT_AUDITED, NOT_CHECKED
    return model.audited.verdict, trust(model.audited)


def _robust(model: ModelResults) -> dict[int, RobustAccuracy]:
    if (summary := model.audited) is None:
        return {}
    budgets = sorted(summary.budgets, key=lambda rates: rates.budget)
    return {rates.budget: robust_accuracy(summary, rates) for rates in budgets}


def answer(lines: Sequence[Standing]) -> str:
    """Return what the models come to in plain words: the best one, and the one whose FGS rate says least."""
    tried = [(line, line.worst.value) for line in lines if line.worst is not None]
    if not lines:
        return "No model here is audited, so that no verdict can be given."
    if not tried:
        which = "The only model is not" if len(lines) == 1 else f"None of the {len(lines)} models is"
        return f"{which} audited: whether a low attack rate is robustness is not known."
    best, most = max(tried, key=lambda each: each[1])
    share = f"{most:.1f} % of the images stay right under every attack tried within {max(best.robust)}/255"
    told = f"{best.model.id} holds best: {share}"
    if most < 1.0:
        told = f"None of the {len(tried)} audited models holds: at most {share}"
    fooled, left = max(tried, key=lambda each: (each[0].fgs or 0.0) - each[1])
    if (fooled.fgs or 0.0) - left < 10.0:
        return f"{told}."
    what = "nothing is left" if left < 0.05 else f"{left:.1f} % are left"
    return f"{told}. {fooled.model.id} looks {fooled.fgs:.0f} % robust to FGS alone; under the worst case {what}."


def _fgs_alone(model: ModelResults, budget: int | None) -> float | None:
    """Return the accuracy in percent that FGS alone would leave within the largest budget audited.

    budget: that of the other models, in grey levels; None where none is audited, and it is that at any distance.
    """
    summary = model.audited
    largest = max(summary.budgets, key=lambda rates: rates.budget, default=None) if summary else None
    if summary is not None and largest is not None and "fgs" in largest.flipped and "fgs" not in largest.tried:
        return 100.0 * (summary.correct - largest.flipped["fgs"]) / summary.images
    if budget is not None:
        images = model.images("fgs")
        return None if images is None else float(Held(np.sort(linf_or_infinite(images)), len(images)).accuracy(budget))
    measured = model.summary("fgs")
    return None if measured is None else 100.0 * (measured.correct - measured.flipped) / measured.images
