"""Every published number beside the one measured here: where they agree, as far as can be told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from bangbench.core.statistics import (
    Interval,
    mean_interval,
    newcombe_interval,
    prediction_interval,
    welch_interval,
)
from bangbench.paper.published import (
    PublishedAttack,
    PublishedRow,
    RowReference,
    figure_of,
    is_published_data,
    published_row,
)
from bangbench.paper.tables import ATTACKS
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.experiments import (
    NOT_AUDITED,
    UNMASKED,
    Experiment,
    ModelResults,
    noise_title,
    worst_of,
)
from bangbench.reporting.noise import evolutions_alike
from bangbench.reporting.seeds import independent, recipes
from bangbench.reporting.table import SIGMA
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


def _paper_count(percent: float, images: int) -> int:
    return round(percent / 100.0 * images)


def _accuracy_claim(models: Sequence[ModelResults], row: PublishedRow, same: bool) -> Claim:
    ours = next(iter(models[0].attacks.values())).summary
    interval = newcombe_interval(ours.correct, ours.images, _paper_count(row.accuracy, PAPER_IMAGES), PAPER_IMAGES)
    audit = _verdict(models, PREDICTIONS)
    claim = Claim(models[0].id, "accuracy", "percent", row.accuracy, images=ours.images, audit=audit)
    return _over_seeds(claim, [model.accuracy for model in models], interval, same)


def _attack_claims(
    models: Sequence[ModelResults], attack: str, row: PublishedRow, printed: PublishedAttack, same: bool
) -> Iterator[Claim]:
    """Yield rate, PASS and L_inf of one attack; the paper's counts follow from its rounded percentages."""
    title, summaries = attack.upper(), [found for model in models if (found := model.summary(attack)) is not None]
    correct = _paper_count(row.accuracy, PAPER_IMAGES)
    flipped = _paper_count(printed.rate, correct)
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
                claim = Claim(noise_title(alike[0]), cell, "percent", paper)
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
    agreement: Agreement = "other data"
    if same and interval is None:
        agreement = "no interval"
    elif same and interval is not None:
        agreement = "differs" if interval[0] > 0.0 or interval[1] < 0.0 else "agrees"
    return claim._replace(
        ours=ours,
        interval=interval if ours is not None else None,
        agreement=agreement,
        seeds=None if ours is None else 1,
    )
