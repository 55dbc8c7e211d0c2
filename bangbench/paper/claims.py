"""Every published number beside the one measured here: where they agree, as far as can be told; the table of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bangbench.core.errors import BenchError
from bangbench.core.statistics import Interval, mean_interval, newcombe_interval, prediction_interval, welch_interval
from bangbench.paper.published import (
    PublishedAttack,
    PublishedRow,
    RowReference,
    figure_of,
    is_published_data,
    published,
    published_row,
)
from bangbench.paper.tables import ATTACKS
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.experiments import NOT_AUDITED, UNMASKED, Experiment, ModelResults, worst_of
from bangbench.reporting.frames import Frames, Values
from bangbench.reporting.noise import evolutions_alike
from bangbench.reporting.seeds import independent, recipes
from bangbench.reporting.table import (
    KIND,
    MISSING,
    SIGMA,
    Cell,
    Column,
    Table,
    Value,
    audit_notes,
    interval_text,
    make_table,
    number,
    whole,
    words,
)
from bangbench.store.audits import PREDICTIONS
from bangbench.store.records import AttackSummary, Moments

Agreement = Literal["agrees", "differs", "not measured", "no interval", "other data"]
Unit = Literal["percent", "pass", "grey_levels"]

#: The paper's test images: 10,000 of MNIST and of CIFAR-10.
PAPER_IMAGES = 10_000


class Claim(NamedTuple):
    """One published number and ours, in the unit `unit`.

    ours: of one training, or the mean over `seeds` of them; interval: of ours minus published (percentage points where
    the unit is percent), by the sampling of images with one seed, by the spread over the seeds with several; images:
    behind the number of one training; audit: whether our number is what it seems to be; unmasked: ours of the unmasked
    twin, where an attack is masked.
    """

    model: str
    cell: str
    unit: Unit
    published: float
    ours: float | None = None
    interval: Interval | None = None
    agreement: Agreement = "not measured"
    images: int | None = None
    seeds: int | None = None
    audit: str | None = None
    unmasked: tuple[float | None, str] | None = None


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Return every published number about the models and noise evolutions, with ours where it was measured."""
    return (*_row_claims(experiment), *_noise_claims(experiment))


def _row_claims(experiment: Experiment) -> Iterator[Claim]:
    for models, reference in trainings(experiment):
        row, same = reference.row, is_published_data(experiment.data, reference.dataset)
        yield _accuracy_claim(models, row, same)
        for attack, printed in zip(ATTACKS, (row.fgs, row.hc1), strict=True):
            for claim in _attack_claims(models, attack, row, printed, same):
                yield _judged(claim, models, attack)


def trainings(experiment: Experiment) -> Iterator[tuple[list[ModelResults], RowReference]]:
    """Yield every published row that was trained here, with its models, which differ in nothing but their seed.

    The first is the one that stands for the row. The regular rows of a table are trained alike, so that the same seeds
    stand behind each of them.
    """
    alike = {model.name: models for models in recipes(experiment.attacked) for model in models}
    told = set()
    for model in experiment.attacked:
        reference = published_row(model.model, experiment.data, model.card)
        models = alike.get(model.name, [model])
        if reference is not None and (reference.row.id, models[0].name) not in told:
            told.add((reference.row.id, models[0].name))
            yield independent([model, *models]), reference


def _judged(claim: Claim, models: Sequence[ModelResults], attack: str) -> Claim:
    """Return a claim about an attack with the audit's verdict and, where that is masked, the twin's number."""
    if claim.ours is None:
        return claim
    twin = f"{attack}{UNMASKED}"
    judged = claim._replace(audit=_verdict(models, attack))
    masked = [model for model in models if model.is_masked(attack)]
    found = [other for model in masked if (other := model.summary(twin) or model.claim(twin)) is not None]
    if claim.unit == "pass" or not found:
        return judged
    distances = [None if other.linf is None else other.linf.mean for other in found]
    values = [other.rate for other in found] if claim.unit == "percent" else distances
    known = [value for value in values if value is not None]
    return judged._replace(unmasked=(float(np.mean(known)) if known else None, _verdict(masked, twin)))


def _verdict(models: Sequence[ModelResults], claim: str) -> str:
    """Return the worst verdict on a claim among the seeds that were audited."""
    verdicts = {model.verdict(claim) for model in models}
    return worst_of(verdicts - {NOT_AUDITED} or verdicts)


def _accuracy_claim(models: Sequence[ModelResults], row: PublishedRow, same: bool) -> Claim:
    ours = next(iter(models[0].attacks.values())).summary
    theirs = round(row.accuracy / 100.0 * PAPER_IMAGES)  # the paper's counts follow from its rounded percentages
    interval = newcombe_interval(ours.correct, ours.images, theirs, PAPER_IMAGES)
    audit = _verdict(models, PREDICTIONS)
    claim = Claim(models[0].id, "accuracy", "percent", row.accuracy, images=ours.images, audit=audit)
    return _over_seeds(claim, [model.accuracy for model in models], interval, same)


def _attack_claims(
    models: Sequence[ModelResults], attack: str, row: PublishedRow, printed: PublishedAttack, same: bool
) -> Iterator[Claim]:
    """Yield rate, PASS and L_inf of one attack."""
    title, summaries = attack.upper(), [found for model in models if (found := model.summary(attack)) is not None]
    correct = round(row.accuracy / 100.0 * PAPER_IMAGES)
    flipped = round(printed.rate / 100.0 * correct)
    rate = Claim(models[0].id, f"{title} rate", "percent", printed.rate)
    score = Claim(models[0].id, f"{title} PASS", "pass", printed.pass_paper[0])
    linf = Claim(models[0].id, f"{title} L∞", "grey_levels", printed.linf[0])
    if not summaries:
        yield from (rate, score, linf)
        return
    summary = summaries[0]
    interval = newcombe_interval(summary.flipped, summary.correct, flipped, correct)
    yield _over_seeds(rate._replace(images=summary.correct), [each.rate for each in summaries], interval, same)
    scores, distances = [each.pass_paper for each in summaries], [each.linf for each in summaries]
    for claim, ours, paper in ((score, scores, printed.pass_paper), (linf, distances, printed.linf)):
        interval = _mean_interval(summary, ours[0], paper, flipped)
        yield _over_seeds(claim._replace(images=summary.flipped), [each.mean for each in ours], interval, same)


def _over_seeds(claim: Claim, values: Sequence[float | None], interval: Interval | None, same: bool) -> Claim:
    """Return a claim with our numbers, one a seed; interval: of the difference where there is only one, by its images.

    Of several, the next one is predicted: the published number agrees where it could be one of them.
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if len(known) < 2:
        return _measured(claim, float(known[0]) if len(known) else None, interval, same)
    ends = prediction_interval(known)
    interval = None if ends is None else (ends[0] - claim.published, ends[1] - claim.published)
    return _measured(claim, float(np.mean(known)), interval, same)._replace(seeds=len(known))


def _mean_interval(summary: AttackSummary, ours: Moments, paper: tuple[float, float], count: int) -> Interval | None:
    """Return Welch's interval of our mean minus the paper's; None of fewer than two flipped images or equal numbers."""
    n = summary.flipped
    if ours.mean is None or ours.std is None or n < 2:
        return None
    sample_std = ours.std * math.sqrt(n / (n - 1))  # records hold the population's
    return welch_interval(ours.mean, sample_std, n, *paper, count)


def _noise_claims(experiment: Experiment) -> Iterator[Claim]:
    """Yield both ends of the figure about two models: the last stage under the strongest noise, over their seeds."""
    for alike in evolutions_alike(experiment):
        reference = figure_of(alike[0], experiment)
        if reference is not None:
            figure, same = reference.figure, is_published_data(experiment.data, reference.dataset)
            for place, paper in enumerate((figure.regular_percent, figure.bang_percent)):
                cell = f"noise {SIGMA} {figure.sigma:g}, {('regular', 'BANG')[place]}"
                claim = Claim(alike[0].title, cell, "percent", paper)
                yield _noise_claim(experiment, alike, claim, figure.sigma, place, same)


def _noise_claim(
    experiment: Experiment, alike: Sequence[FoundNoise], claim: Claim, sigma: float, place: int, same: bool
) -> Claim:
    """Return the claim about one of the models, by its place. The published number is taken as exact."""
    measured = [found for found in alike if sigma in found.summary.sigmas]
    if not measured:
        return claim
    first, percent = measured[0], {}
    for found in reversed(measured):
        summary = found.summary
        percent[found.record.models[place].name] = summary.flipped_percent[place][-1][summary.sigmas.index(sigma)]
    interval = None
    if first.percent is not None:
        estimate = mean_interval(first.percent[place, -1, first.summary.sigmas.index(sigma)])
        if estimate is not None and estimate.interval is not None:
            interval = estimate.interval[0] - claim.published, estimate.interval[1] - claim.published
    models = [model for name in reversed(percent) if (model := experiment.find(name)) is not None]
    audit = _verdict(models, PREDICTIONS) if models else None
    claim = claim._replace(images=first.summary.images, audit=audit)
    return _over_seeds(claim, list(percent.values()), interval, same)


def _measured(claim: Claim, ours: float | None, interval: Interval | None, same: bool) -> Claim:
    """Return a claim with our number, and whether the two agree."""
    agreement: Agreement = "no interval" if interval is None else "agrees"
    if interval is not None and (interval[0] > 0.0 or interval[1] < 0.0):
        agreement = "differs"
    judged = claim._replace(agreement=agreement if same else "other data")
    return judged if ours is None else judged._replace(ours=ours, interval=interval, seeds=1)


#: With fewer images than this an interval is so wide that agreement says little.
_FEW_IMAGES = 1000
_PLACES: dict[Unit, int] = {"percent": 2, "pass": 4, "grey_levels": 2}


def claim_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return a verdict on every published number about an experiment's models; None where the paper has none."""
    found = claims(experiment)
    counted = (_counts(found), *_notes(experiment, found)) if found else ()
    return make_table(
        f"{experiment.name}-claims",
        f"{experiment.title}; published numbers against measured ones",
        [row for claim in found for row in _rows(experiment, claim)],
        (
            words("Model"),
            words("Number", "cell"),
            *(Column(header, _by_unit(header.lower()), _one) for header in ("Published", "Ours")),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            whole("Seeds"),
            Column("Difference", _by_unit("difference"), _one),
            Column("95 % interval", _by_unit("difference", ("_low", "_high")), _two),
            words("Verdict"),
        ),
        (*counted, *audit_notes(experiment, (PREDICTIONS, *ATTACKS), experiment.everyone)),
    )


def check_claims(tables: Sequence[Table]) -> None:
    """Raise `BenchError` where no result has a published number."""
    if not tables:
        raise BenchError(
            "none of these results stands for a row of the paper: the net, its training images, method or settings are "
            "others; to train the paper's own: bangbench reproduce table1"
        )


def _by_unit(prefix: str, ends: tuple[str, ...] = ("",)) -> tuple[str, ...]:
    """Return a CSV header for every unit and end; a row fills those of its own unit."""
    names = {"percent": "points"} if prefix == "difference" else {}
    return tuple(f"{prefix}{end}_{names.get(unit, unit)}" for unit in _PLACES for end in ends)


def _in_unit(unit: Unit, fields: tuple[str, ...], *values: Value) -> Values:
    """Return values by field, in the places of a unit."""
    first = [*_PLACES].index(unit) * len(values)
    return dict.fromkeys(fields) | dict(zip(fields[first:], values, strict=False))


def _one(cell: Cell) -> str:
    """Show the number of the one unit that a cell has."""
    found = zip(cell, _PLACES.values(), strict=True)
    return next((number(value, places) for value, places in found if value is not None), MISSING)


def _two(cell: Cell) -> str:
    """Show the interval of the one unit that a cell has."""
    found = zip(cell[::2], cell[1::2], _PLACES.values(), strict=True)
    return next((interval_text((low, high), places) for low, high, places in found if low is not None), MISSING)


def _rows(experiment: Experiment, claim: Claim) -> Iterator[Values]:
    """Yield a claim's row and, where it is masked, one of the same number under the unmasked twin of the attack."""
    yield _row(experiment, claim)
    if claim.unmasked is not None:
        attack, _, what = claim.cell.partition(" ")
        ours, audit = claim.unmasked
        twin = Claim(claim.model, f"{attack}{UNMASKED} {what}", claim.unit, claim.published, ours, audit=audit)
        not_published = dict.fromkeys((*_by_unit("published"), *_by_unit("difference")))
        yield _row(experiment, twin) | not_published | {"verdict": "not published", KIND: "unmasked"}


def _row(experiment: Experiment, claim: Claim) -> Values:
    unit = claim.unit
    low, high = claim.interval or (None, None)
    difference = None if claim.ours is None else claim.ours - claim.published
    return {
        "model": claim.model,
        "data": experiment.data.name,
        "cell": claim.cell,
        **_in_unit(unit, _by_unit("published"), claim.published),
        **_in_unit(unit, _by_unit("ours"), claim.ours),
        "audit_verdict": claim.audit,
        "seeds": claim.seeds,
        **_in_unit(unit, _by_unit("difference"), difference),
        **_in_unit(unit, _by_unit("difference", ("_low", "_high")), low, high),
        "verdict": claim.agreement,
        KIND: "measured",
    }


def _counts(found: Sequence[Claim]) -> str:
    """Return how many numbers agree, differ, were not measured and, where there are such, the others; what it says."""
    counts = Counter(claim.agreement for claim in found)
    parts = [
        f"{counts['agrees']} agree",
        f"{counts['differs']} differ",
        f"{counts['not measured']} are not measured",
        *([f"{counts['no interval']} have no interval"] if counts["no interval"] else []),
        *([f"{counts['other data']} were measured on other data"] if counts["other data"] else []),
    ]
    judged = [claim for claim in found if claim.agreement in ("agrees", "differs")]
    several = [claim for claim in judged if (claim.seeds or 1) > 1]
    single = len(judged) - len(several)
    told = [f"Of {len(found)} published numbers {', '.join(parts)}."]
    if several:
        seeds = sorted({claim.seeds for claim in several if claim.seeds is not None})
        agree = sum(claim.agreement == "agrees" for claim in several)
        which = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        few = " (with two seeds nearly everything does)" if seeds[0] == 2 else ""
        told.append(f"{len(several)} are judged by {which} seeds, of which {agree} agree{few}.")
    if single:
        told.append(
            f"{single} are judged by one training as far as the sampling of images goes, not training with another "
            "seed: a number that differs there tells this one training from the paper's, and refutes nothing."
        )
    return " ".join((*told, "That a number agrees says that no difference was found, not that there is none."))


def _notes(experiment: Experiment, found: Sequence[Claim]) -> Iterator[str]:
    yield (
        f"Published: {published().source.title} (arXiv {published().source.arxiv}). Accuracy, rates and noise in "
        "percent, their difference (ours minus published) in percentage points; L∞ in grey levels; PASS of ours is "
        "pass_paper, which was matched empirically to the paper's Table 1."
    )
    yield (
        "Seeds: how many trainings stand behind ours, which is their mean. A number agrees where the 95 % interval of "
        "the difference includes zero. With one seed the interval covers the sampling of images, not training with "
        "another seed: a model trained again can differ and the paper still be right."
    )
    if any((claim.seeds or 0) > 1 for claim in found):
        yield (
            "With several seeds it is the prediction interval: the published number, one training too, agrees where it "
            "could be one more of them, within t s √(1 + 1/n) of their mean. That is 15.6 standard deviations s with "
            "two seeds, 5.0 with three, 3.0 with five: with two nearly everything agrees. Rows that are trained alike, "
            "as the regular ones, share their seeds."
        )
    few = [
        f"{claim.model} {claim.cell} ({claim.images:,})"
        for claim in found
        if claim.agreement == "agrees" and claim.seeds == 1 and claim.images is not None and claim.images < _FEW_IMAGES
    ]
    if few:
        yield (
            f"Few images agree with nearly every number. Fewer than {_FEW_IMAGES:,} are behind ours where it agrees "
            f"in: {', '.join(few)}."
        )
    yield (
        f"Intervals with one seed: Newcombe's for accuracy (the paper: {PAPER_IMAGES:,} images) and rates (the paper: "
        "its correct images), Welch's for means over flipped images with the paper's standard deviations (none where "
        "fewer than two images are flipped, or all give the same number). The two sets of images are taken as "
        "independent, since the paper gives no single images: on the same test images the intervals are rather too "
        "wide, so that of 100 numbers that are equal in truth at most about 5 differ by chance."
    )
    if any(claim.cell.startswith("noise") for claim in found):
        yield (
            "Noise: at the last stage. The paper gives no counts (and round numbers for figure 3), so its numbers are "
            "taken as exact; with one seed the interval is that of ours, a bootstrap over images (the figure's are t "
            "intervals). It needs noise.parquet, at least 6 images, and not the same count for all of them."
        )
    if any(claim.agreement == "other data" for claim in found):
        yield (
            f"Other data: measured on {experiment.data.name}, not on the images of the published numbers; no verdict "
            "can be given."
        )
