"""The records under results/ as tidy pandas frames, one row per measurement; what is missing is NaN, NA or None."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bangbench.auditing.reasons import REASONS
from bangbench.core.errors import BenchError
from bangbench.core.statistics import Interval
from bangbench.reporting.collect import cell_draws, collect
from bangbench.reporting.experiments import NOT_AUDITED, Experiment, ModelResults, group_records
from bangbench.store.audits import PREDICTIONS, WORST_CASE, AuditSummary, BudgetRates, Check, ClaimVerdict
from bangbench.store.headline import robust_accuracy
from bangbench.store.records import AttackSummary

Values = dict[str, Any]
OVERALL = "overall"
OUTCOMES = ("masked", "suspect", "inconclusive", "note", "not-run", "passed")

_TEXT, _WHOLE, _REAL = "object", "Int64", "float64"
_KEYS = {
    "experiment": (_TEXT, "stem of the experiment's files: the folder of its models"),
    "id": (_TEXT, "name of the model without its folder"),
    "model": (_TEXT, "name of the model under models/ and results/"),
    "data": (_TEXT, "name of the data set"),
}

#: Every column of every frame: its dtype and what it means.
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    "models": {
        **_KEYS,
        "images": (_WHOLE, "test images of the experiment"),
        "net": (_TEXT, "architecture"),
        "method": (_TEXT, "training method, None where the weights were made elsewhere"),
        "method_settings": (_TEXT, "settings of the method, such as 'beta 1, epsilon 0.815'"),
        "paper": (_TEXT, "where the method is from, as the model's card says"),
        "year": (_WHOLE, "year of that paper"),
        "beta": (_REAL, "BANG's beta"),
        "epsilon": (_REAL, "BANG's epsilon"),
        "parameters": (_WHOLE, "number of weights"),
        "seed": (_WHOLE, "seed of the training"),
        "iterations": (_WHOLE, "steps of the training"),
        "trained_on": (_TEXT, "data set of the training"),
        "weights_sha256": (_TEXT, "hash of the weights"),
        "training_seconds": (_REAL, "wall-clock time of the training"),
        "accuracy_percent": (_REAL, "clean accuracy, over the images of the attacks or else of the audit"),
        "audit_verdict": (_TEXT, "sound, inconclusive, suspect, masked, or not audited"),
        "reasons": (_TEXT, "reason codes of the verdict"),
        "strength": (_TEXT, "how hard the audit tried: quick, standard ...; None in audits of earlier versions"),
    },
    "attacks": {
        **_KEYS,
        "attack": (_TEXT, "name of the attack"),
        "images": (_WHOLE, "test images"),
        "correct": (_WHOLE, "those classified correctly, all of which are attacked"),
        "flipped": (_WHOLE, "those that the attack made misclassified"),
        "accuracy_percent": (_REAL, "clean accuracy"),
        "rate_percent": (_REAL, "flipped in percent of the correct"),
        "rate_low_percent": (_REAL, "lower end of its 95 % Wilson interval"),
        "rate_high_percent": (_REAL, "upper end"),
        "audit_verdict": (_TEXT, "the audit's verdict on this rate"),
        "blank_percent": (_REAL, "correct images that give the attack no direction, in percent"),
        "linf_mean_grey_levels": (_REAL, "mean L_inf over the flipped images"),
        "linf_std_grey_levels": (_REAL, "its population standard deviation"),
        "linf_median_censored_grey_levels": (_REAL, "median over the correct images, those never flipped infinite"),
        "pass_mean": (_REAL, "PASS by its written definition, over the flipped images"),
        "pass_std": (_REAL, "its standard deviation"),
        "pass_paper_mean": (_REAL, "PASS as matched to the paper's Table 1"),
        "pass_paper_std": (_REAL, "its standard deviation"),
        "ssim_unaligned_mean": (_REAL, "SSIM without alignment"),
        "ssim_unaligned_std": (_REAL, "its standard deviation"),
        "ecc_failures_definition": (_WHOLE, "pairs whose alignment failed (PASS by definition)"),
        "ecc_failures_paper": (_WHOLE, "the same for PASS (paper)"),
        "unverified": (_WHOLE, "flips not confirmed by predicting the stored image again"),
        "forwards": (_WHOLE, "forward passes"),
        "seconds": (_REAL, "wall-clock time, PASS included"),
    },
    "audits": {
        **_KEYS,
        "images": (_WHOLE, "test images of the audit"),
        "correct": (_WHOLE, "those classified correctly"),
        "claim": (_TEXT, "overall, predictions, an attack, or worst-case"),
        "audit_verdict": (_TEXT, "the verdict on the claim; None for an attack within a budget but the largest"),
        "reasons": (_TEXT, "reason codes"),
        "budget_grey_levels": (_REAL, "L_inf budget, NaN for a claim without one"),
        "flipped": (_WHOLE, "images flipped within the budget"),
        "tried": (_WHOLE, "images the attack was given, where those were only what the others had left"),
        "rate_percent": (_REAL, "flipped in percent of the correct; accuracy for predictions"),
        "rate_low_percent": (_REAL, "lower end of the 95 % Wilson interval, for the worst case"),
        "rate_high_percent": (_REAL, "upper end"),
        "robust_accuracy_percent": (_REAL, "correct and unflipped in percent of all images, for the worst case"),
        "robust_low_percent": (_REAL, "lower end of its 95 % Wilson interval"),
        "robust_high_percent": (_REAL, "upper end"),
        "linf_mean_grey_levels": (_REAL, "mean L_inf over the images flipped along a line"),
        "linf_std_grey_levels": (_REAL, "its population standard deviation"),
        "strength": (_TEXT, "how hard the audit tried"),
        "seconds": (_REAL, "wall-clock time of the whole audit"),
        "forwards": (_WHOLE, "forward passes of the whole audit"),
    },
    "checks": {
        **_KEYS,
        "code": (_TEXT, "reason code"),
        "outcome": (_TEXT, f"one of {', '.join(OUTCOMES)}"),
        "claims": (_TEXT, "claims that the outcome concerns, empty: all"),
        "evidence": (_TEXT, "a sentence with the numbers"),
        "meaning": (_TEXT, "what it means"),
        "advice": (_TEXT, "what to do"),
        "sources": (_TEXT, "where the check comes from"),
        "images_count": (_WHOLE, "images that show it"),
        "images_first": (_TEXT, "places of the first of them in the test split"),
    },
    "noise": {
        **_KEYS,
        "evolution": (_TEXT, "the models beside each other, such as 'R0 vs B1'"),
        "reference": (_TEXT, "name of the first of these models"),
        "images": (_WHOLE, "images that all the models classify correctly at all stages"),
        "stage": (_WHOLE, "iteration of the training, NA where it is not known"),
        "is_last": ("bool", "whether it is the last stage"),
        "sigma_grey_levels": (_REAL, "standard deviation of the noise"),
        "draws": (_WHOLE, "noisy copies of each image"),
        "flipped_percent": (_REAL, "copies not classified as the image's class"),
        "low_percent": (_REAL, "lower end of its interval, where drawing may stop at a precision"),
        "high_percent": (_REAL, "upper end"),
        "audit_verdict": (_TEXT, "the audit's verdict on the model's predictions"),
    },
}


class Frames(NamedTuple):
    """What was measured, as pandas frames with the columns of `COLUMNS`.

    images: one row per (experiment, model, attack, image) with the columns of ATTACK.parquet, of the attacks whose
    single images are there; problems: a message for each record that cannot be used. Of a grid's models `read` puts
    the summaries into models, attacks and noise.
    """

    models: pd.DataFrame
    attacks: pd.DataFrame
    images: pd.DataFrame
    audits: pd.DataFrame
    checks: pd.DataFrame
    noise: pd.DataFrame
    problems: tuple[str, ...] = ()


def read(folder: str | Path = "results", models: Iterable[str] = ()) -> Frames:
    """Return everything measured under a results folder, or of some models only.

    folder: ``results/``, or the directory that holds it. Raises `BenchError` where there are no results, `UsageError`
    for a model without any.
    """
    place = Path(folder)
    root = place if (place / "results").is_dir() else place.parent
    if not (place / "results").is_dir() and place.absolute().name != "results":
        raise BenchError(f"{folder}: expected a folder called results, or the directory that holds it; found neither")
    collected = collect(root, tuple(models))
    experiments, doubts = group_records(collected)
    frames = frames_of(experiments, with_cells=True)
    return frames._replace(images=_images(experiments), problems=(*collected.problems, *doubts))


def frames_of(experiments: Iterable[Experiment], with_cells: bool = False) -> Frames:
    """Return the frames of some experiments, the one of single images empty; with_cells: those of grids, too."""
    listed = list(experiments)
    builders = {"models": _models, "attacks": _attacks, "audits": _audits, "checks": _checks, "noise": _noise}
    rows = {name: [row for each in listed for row in build(each)] for name, build in builders.items()}
    for name, row in (found for each in listed if with_cells for found in _cells(each)):
        rows[name].append(row)
    return Frames(images=pd.DataFrame(), **{name: _frame(name, found) for name, found in rows.items()})


def records_of(frame: pd.DataFrame) -> list[Values]:
    """Return the rows of a frame as plain Python values, None for what is missing."""
    columns = {name: [plain(value) for value in frame[name].tolist()] for name in frame.columns}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def plain(value: Any) -> Any:
    """Return a number or text without pandas' and numpy's types; None for NaN and NA."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _frame(name: str, rows: Sequence[Values]) -> pd.DataFrame:
    columns = COLUMNS[name].items()
    return pd.DataFrame(
        {column: pd.Series([row.get(column) for row in rows], dtype=dtype) for column, (dtype, _) in columns}
    )


def _keys(experiment: Experiment, model: ModelResults) -> Values:
    return {"experiment": experiment.name, "id": model.id, "model": model.name, "data": experiment.data.name}


def _same(record: object, *names: str) -> Values:
    """Return what a record and a frame call by the same names."""
    return {name: getattr(record, name) for name in names}


def interval_fields(stem: str, unit: str) -> tuple[str, str, str]:
    """Return the columns of a number and of the ends of its interval."""
    return f"{stem}{unit}", f"{stem}_low{unit}", f"{stem}_high{unit}"


def with_interval(stem: str, unit: str, value: float | None, interval: Interval | None) -> Values:
    """Return a number and the ends of its interval, by their columns."""
    return dict(zip(interval_fields(stem, unit), (value, *(interval or (None, None))), strict=True))


def _models(experiment: Experiment) -> Iterator[Values]:
    for model in experiment.everyone:
        yield _model(experiment, model)


def _model(experiment: Experiment, model: ModelResults) -> Values:
    info, summary = model.model, model.audited
    paper = model.card.paper if model.card else None
    year = re.search(r"\b(19|20)\d\d\b", paper or "")
    return _keys(experiment, model) | {
        "images": experiment.data.images,
        **_same(info, "net", "method", "parameters", "seed", "iterations", "weights_sha256"),
        "method_settings": ", ".join(f"{name} {value}" for name, value in info.method_text().items()) or None,
        "paper": paper,
        "year": None if year is None else int(year[0]),
        "beta": info.method_number("beta"),
        "epsilon": info.method_number("epsilon"),
        "trained_on": info.data,
        "training_seconds": None if model.card is None else model.card.seconds,
        "accuracy_percent": model.accuracy if model.attacks or model.audit else None,
        "audit_verdict": NOT_AUDITED if summary is None else summary.verdict,
        "reasons": None if summary is None else ", ".join(summary.reasons) or None,
        "strength": None if summary is None else summary.strength,
    }


def _cells(experiment: Experiment) -> Iterator[tuple[str, Values]]:
    """Yield the rows of a grid's models, each with the name of its frame."""
    for _, record in experiment.grid.finished if experiment.grid else ():
        if record.model is None:
            continue
        model, judged = ModelResults(record.model.name, record.model, {}), {"audit_verdict": NOT_AUDITED}
        keys, noise = _keys(experiment, model), record.noise
        yield "models", _model(experiment, model) | {"accuracy_percent": record.accuracy}
        for attack, summary in record.attacks.items():
            yield "attacks", keys | {"attack": attack} | attack_values(summary) | judged
        if noise is not None and noise.images:
            values = {"stage": record.model.iterations, "is_last": True, "sigma_grey_levels": noise.sigma}
            yield "noise", keys | _same(noise, "images", "draws", "flipped_percent") | values | judged


def _attacks(experiment: Experiment) -> Iterator[Values]:
    for model in experiment.models:
        for attack in model.attack_names:
            yield _keys(experiment, model) | {"attack": attack} | measured(model, attack)


def measured(model: ModelResults, attack: str) -> Values:
    """Return the numbers of an attack and the verdict on them, as the frame of attacks has them; none if not run."""
    summary = model.summary(attack)
    return {} if summary is None else attack_values(summary) | {"audit_verdict": model.verdict(attack)}


def attack_values(summary: AttackSummary) -> Values:
    """Return the numbers of an attack, by the columns of the frame of attacks."""
    moments = {
        "linf": (summary.linf, "_grey_levels"),
        "pass": (summary.pass_definition, ""),
        "pass_paper": (summary.pass_paper, ""),
        "ssim_unaligned": (summary.unaligned, ""),
    }
    median = summary.linf.median_censored
    median = math.inf if median is None else median  # of images most of which never flip
    values = _same(summary, "images", "correct", "flipped", "unverified", "forwards", "seconds") | {
        "accuracy_percent": summary.accuracy,
        **with_interval("rate", "_percent", summary.rate, summary.rate_interval),
        "blank_percent": summary.blank,
        "linf_median_censored_grey_levels": median if summary.correct else None,
    }
    for name, (found, unit) in moments.items():
        values |= {f"{name}_mean{unit}": found.mean, f"{name}_std{unit}": found.std}
    return values | {f"ecc_failures_{kind}": count for kind, count in summary.ecc_failures.items()}


def claim_values(claim: ClaimVerdict) -> Values:
    """Return what an audit says of a claim, by the columns of the frame of audits."""
    linf = claim.linf
    return {
        "claim": claim.claim,
        "audit_verdict": claim.verdict,
        "reasons": ", ".join(claim.reasons) or None,
        "rate_percent": claim.rate,
        "linf_mean_grey_levels": None if linf is None else linf.mean,
        "linf_std_grey_levels": None if linf is None else linf.std,
    }


def _audits(experiment: Experiment) -> Iterator[Values]:
    """Yield the verdict overall and on each claim, and under them what each attack did within each budget."""
    for model in experiment.everyone:
        if (summary := model.audited) is None:
            continue
        shared = _keys(experiment, model) | _same(summary, "images", "correct", "strength", "seconds", "forwards")
        reasons = ", ".join(summary.reasons) or None
        yield shared | {"claim": OVERALL, "audit_verdict": summary.verdict, "reasons": reasons}
        for claim in _ordered(summary.claims):
            yield shared | claim_values(claim)
        for rates in sorted(summary.budgets, key=lambda rates: rates.budget):
            for values in _within(summary, rates):
                yield shared | {"budget_grey_levels": rates.budget} | values


def _within(summary: AuditSummary, rates: BudgetRates) -> Iterator[Values]:
    for attack, count in rates.flipped.items():
        tried = rates.tried.get(attack)
        rate = 100.0 * count / summary.correct if summary.correct and tried is None else None
        yield {"claim": attack, "flipped": count, "tried": tried, "rate_percent": rate}
    robust = ("robust_accuracy_percent", "robust_low_percent", "robust_high_percent")
    yield {
        "claim": WORST_CASE,
        "flipped": rates.worst_case,
        **with_interval("rate", "_percent", rates.rate, rates.rate_interval),
        **dict(zip(robust, robust_accuracy(summary, rates), strict=False)),
    }


def _ordered(claims: Sequence[ClaimVerdict]) -> list[ClaimVerdict]:
    """Return the claims in their order, but the predictions first and the worst case last, twins side by side."""
    names = [claim.claim for claim in claims]

    def key(claim: ClaimVerdict) -> tuple[bool, bool, int, bool]:
        name, stem = claim.claim, claim.claim.removesuffix("-unmasked")
        return name != PREDICTIONS, name == WORST_CASE, names.index(stem if stem in names else name), stem != name

    return sorted(claims, key=key)


def worst_first(summary: AuditSummary) -> list[Check]:
    """Return the checks of an audit, worst first, each kind in the order in which they were made."""
    return sorted(summary.checks, key=lambda check: OUTCOMES.index(check.outcome))


def _checks(experiment: Experiment) -> Iterator[Values]:
    for model, summary in experiment.audits:
        for check in worst_first(summary):
            reason = REASONS.get(check.code)  # None: of another version
            yield _keys(experiment, model) | {
                **_same(check, "code", "outcome", "evidence", "meaning", "advice"),
                "claims": ", ".join(check.claims) or None,
                "sources": "; ".join(reason.sources if reason else ()) or None,
                "images_count": check.count,
                "images_first": " ".join(map(str, check.images)) or None,
            }


def _noise(experiment: Experiment) -> Iterator[Values]:
    for found in experiment.noise:
        record, summary, draws = found.record, found.summary, cell_draws(found.summary)
        for place, stage, column in np.ndindex(draws.shape):
            info = record.models[place]
            model = experiment.find(info.name) or ModelResults(info.name, info, {})
            interval = summary.flipped_interval
            low, high = (None, None) if interval is None else interval[place][stage][column]
            yield _keys(experiment, model) | {
                "evolution": found.title,
                "reference": record.models[0].name,
                "images": summary.images,
                "stage": None if found.last_stage is None else summary.stages[stage],
                "is_last": stage == len(summary.stages) - 1,
                "sigma_grey_levels": float(summary.sigmas[column]),
                "draws": int(draws[place, stage, column]),
                "flipped_percent": summary.flipped_percent[place][stage][column],
                "low_percent": low,
                "high_percent": high,
                "audit_verdict": model.verdict(PREDICTIONS),
            }


def _images(experiments: Iterable[Experiment]) -> pd.DataFrame:
    parts = [
        frame.assign(experiment=experiment.name, model=model.name, attack=attack)
        for experiment in experiments
        for model in experiment.models
        for attack in model.attack_names
        if (frame := model.images(attack)) is not None
    ]
    if not parts:
        return pd.DataFrame(columns=["experiment", "model", "attack", "index"])
    whole = pd.concat(parts, ignore_index=True)
    keys = ["experiment", "model", "attack"]
    return whole[[*keys, *whole.columns.drop(keys)]].astype(dict.fromkeys(keys, "category"))
