"""Every published number beside the one measured here: where they agree, as far as can be told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from bangbench.core.errors import BenchError
from bangbench.core.statistics import Interval, mean_interval, newcombe_interval, welch_interval
from bangbench.paper.published import (
    PublishedAttack,
    PublishedRow,
    figure_of,
    is_published_data,
    published,
    published_row,
)
from bangbench.paper.tables import ATTACKS
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.experiments import UNMASKED, Experiment, ModelResults, noise_title
from bangbench.reporting.frames import Frames, Values
from bangbench.reporting.notes import audit_notes
from bangbench.reporting.table import (
    KIND,
    MISSING,
    SIGMA,
    Cell,
    Column,
    Table,
    Value,
    interval_text,
    make_table,
    number,
    words,
)
from bangbench.store.audits import PREDICTIONS
from bangbench.store.records import AttackSummary, Moments

Agreement = Literal["agrees", "differs", "not measured", "no interval", "other data"]
Unit = Literal["percent", "pass", "grey_levels"]

#: The paper's test images: 10,000 of MNIST and of CIFAR-10.
PAPER_IMAGES = 10_000
#: With fewer images than this an interval is so wide that agreement says little.
_FEW_IMAGES = 1000
_PLACES: dict[Unit, int] = {"percent": 2, "pass": 4, "grey_levels": 2}


class Claim(NamedTuple):
    """One published number and ours, in the unit `unit`.

    interval: of ours minus published (percentage points where the unit is percent); images: behind our number; audit:
    whether our number is what it seems to be; unmasked: ours of the unmasked twin, where an attack is masked.
    """

    model: str
    cell: str
    unit: Unit
    published: float
    ours: float | None = None
    interval: Interval | None = None
    agreement: Agreement = "not measured"
    images: int | None = None
    audit: str | None = None
    unmasked: tuple[float | None, str] | None = None


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
            Column("Published", _by_unit("published"), _shown(_show_one, 1)),
            Column("Ours", _by_unit("ours"), _shown(_show_one, 1)),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            Column("Difference", _by_unit("difference"), _shown(_show_one, 1)),
            Column("95 % interval", _by_unit("difference", ("_low", "_high")), _shown(interval_text, 2)),
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


def claims(experiment: Experiment) -> tuple[Claim, ...]:
    """Return every published number about the models and noise evolutions, with ours where it was measured."""
    return (*_row_claims(experiment), *_noise_claims(experiment))


def _row_claims(experiment: Experiment) -> Iterator[Claim]:
    for model in experiment.attacked:
        reference = published_row(model.model, experiment.data, model.card)
        if reference is None:
            continue
        same = is_published_data(experiment.data, reference.dataset)
        yield _accuracy_claim(model, reference.row, same)
        for attack, printed in zip(ATTACKS, (reference.row.fgs, reference.row.hc1), strict=True):
            for claim in _attack_claims(model, attack, reference.row, printed, same):
                yield _judged(claim, model, attack)


def _judged(claim: Claim, model: ModelResults, attack: str) -> Claim:
    """Return a claim about an attack with the audit's verdict and, where that is masked, the twin's number."""
    if claim.ours is None:
        return claim
    judged = claim._replace(audit=model.verdict(attack))
    twin = f"{attack}{UNMASKED}"
    found = model.summary(twin) or model.claim(twin)
    if claim.unit == "pass" or not model.is_masked(attack) or found is None:
        return judged
    value = found.rate if claim.unit == "percent" else None if found.linf is None else found.linf.mean
    return judged._replace(unmasked=(value, model.verdict(twin)))


def _paper_count(percent: float, images: int) -> int:
    return round(percent / 100.0 * images)


def _accuracy_claim(model: ModelResults, row: PublishedRow, same: bool) -> Claim:
    ours = next(iter(model.attacks.values())).summary
    interval = newcombe_interval(ours.correct, ours.images, _paper_count(row.accuracy, PAPER_IMAGES), PAPER_IMAGES)
    claim = Claim(model.id, "accuracy", "percent", row.accuracy, images=ours.images, audit=model.verdict(PREDICTIONS))
    return _measured(claim, ours.accuracy, interval, same)


def _attack_claims(
    model: ModelResults, attack: str, row: PublishedRow, printed: PublishedAttack, same: bool
) -> Iterator[Claim]:
    """Yield rate, PASS and L_inf of one attack; the paper's counts follow from its rounded percentages."""
    title, summary = attack.upper(), model.summary(attack)
    correct = _paper_count(row.accuracy, PAPER_IMAGES)
    flipped = _paper_count(printed.rate, correct)
    rate = Claim(model.id, f"{title} rate", "percent", printed.rate)
    score = Claim(model.id, f"{title} PASS", "pass", printed.pass_paper[0])
    linf = Claim(model.id, f"{title} L∞", "grey_levels", printed.linf[0])
    if summary is None:
        yield from (rate, score, linf)
        return
    interval = newcombe_interval(summary.flipped, summary.correct, flipped, correct)
    yield _measured(rate._replace(images=summary.correct), summary.rate, interval, same)
    for claim, ours, paper in ((score, summary.pass_paper, printed.pass_paper), (linf, summary.linf, printed.linf)):
        interval = _mean_interval(summary, ours, paper, flipped)
        yield _measured(claim._replace(images=summary.flipped), ours.mean, interval, same)


def _mean_interval(summary: AttackSummary, ours: Moments, paper: tuple[float, float], count: int) -> Interval | None:
    """Return Welch's interval of our mean minus the paper's; None of fewer than two flipped images or equal numbers."""
    n = summary.flipped
    if ours.mean is None or ours.std is None or n < 2:
        return None
    sample_std = ours.std * math.sqrt(n / (n - 1))  # records hold the population's
    return welch_interval(ours.mean, sample_std, n, *paper, count)


def _noise_claims(experiment: Experiment) -> Iterator[Claim]:
    """Yield both ends of the figure about two models: the last stage under the strongest noise."""
    for found in experiment.noise:
        reference = figure_of(found, experiment)
        if reference is not None:
            figure, same = reference.figure, is_published_data(experiment.data, reference.dataset)
            for place, paper in enumerate((figure.regular_percent, figure.bang_percent)):
                cell = f"noise {SIGMA} {figure.sigma:g}, {('regular', 'BANG')[place]}"
                claim = Claim(noise_title(found), cell, "percent", paper)
                yield _noise_claim(experiment, found, claim, figure.sigma, place, same)


def _noise_claim(
    experiment: Experiment, found: FoundNoise, claim: Claim, sigma: float, place: int, same: bool
) -> Claim:
    """Return the claim about one of the models, by its place. The published number is taken as exact."""
    summary = found.summary
    if sigma not in summary.sigmas:
        return claim
    column = summary.sigmas.index(sigma)
    interval = None
    if found.percent is not None:
        estimate = mean_interval(found.percent[place, -1, column])
        if estimate is not None and estimate.interval is not None:
            interval = estimate.interval[0] - claim.published, estimate.interval[1] - claim.published
    model = experiment.find(found.record.models[place].name)
    audit = None if model is None else model.verdict(PREDICTIONS)
    claim = claim._replace(images=summary.images, audit=audit)
    return _measured(claim, summary.flipped_percent[place][-1][column], interval, same)


def _measured(claim: Claim, ours: float | None, interval: Interval | None, same: bool) -> Claim:
    """Return a claim with our number, and whether the two agree."""
    agreement: Agreement = "other data"
    if same and interval is None:
        agreement = "no interval"
    elif same and interval is not None:
        agreement = "differs" if interval[0] > 0.0 or interval[1] < 0.0 else "agrees"
    return claim._replace(ours=ours, interval=interval if ours is not None else None, agreement=agreement)


def _by_unit(prefix: str, ends: tuple[str, ...] = ("",)) -> tuple[str, ...]:
    """Return a CSV header for every unit and end; a row fills those of its own unit."""
    names = {"percent": "points"} if prefix == "difference" else {}
    return tuple(f"{prefix}{end}_{names.get(unit, unit)}" for unit in _PLACES for end in ends)


def _in_unit(unit: Unit, fields: tuple[str, ...], *values: Value) -> Values:
    """Return values by field, in the places of a unit."""
    empty = (None,) * len(values)
    placed = [value for each in _PLACES for value in (values if unit == each else empty)]
    return dict(zip(fields, placed, strict=True))


def _shown(show: Callable[[tuple[Value, Value], int], str], size: int) -> Callable[[Cell], str]:
    """Return a function that shows the numbers of the one unit that a cell has, `size` of them per unit."""

    def shown(cell: Cell) -> str:
        for place, places in enumerate(_PLACES.values()):
            values = cell[place * size : (place + 1) * size]
            if values[0] is not None:
                return show((values[0], values[-1]), places)
        return MISSING

    return shown


def _show_one(values: tuple[Value, Value], places: int) -> str:
    return number(values[0], places)


def _rows(experiment: Experiment, claim: Claim) -> list[Values]:
    """Return a claim's row and, where it is masked, one of the same number under the unmasked twin of the attack."""
    attack, _, what = claim.cell.partition(" ")
    rows = [_row(experiment, claim)]
    if claim.unmasked is not None:
        ours, audit = claim.unmasked
        twin = Claim(claim.model, f"{attack}{UNMASKED} {what}", claim.unit, claim.published, ours, audit=audit)
        published_fields = dict.fromkeys((*_by_unit("published"), *_by_unit("difference")))
        rows.append(_row(experiment, twin) | published_fields | {"verdict": "not published", KIND: "unmasked"})
    return rows


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
    return (
        f"Of {len(found)} published numbers {', '.join(parts)}, as far as the sampling of images goes, not training "
        "with another seed; that a number agrees says that no difference was found, not that there is none."
    )


def _notes(experiment: Experiment, found: Sequence[Claim]) -> Iterator[str]:
    yield (
        f"Published: {published().source.title} (arXiv {published().source.arxiv}). Accuracy, rates and noise in "
        "percent, their difference (ours minus published) in percentage points; L∞ in grey levels; PASS of ours is "
        "pass_paper, which was matched empirically to the paper's Table 1."
    )
    yield (
        "A number agrees where the 95 % interval of the difference includes zero. The interval covers the sampling of "
        "images, not training with another seed: a model trained again can differ and the paper still be right."
    )
    few = [
        f"{claim.model} {claim.cell} ({claim.images:,})"
        for claim in found
        if claim.agreement == "agrees" and claim.images is not None and claim.images < _FEW_IMAGES
    ]
    if few:
        yield (
            f"Few images agree with nearly every number. Fewer than {_FEW_IMAGES:,} are behind ours where it agrees "
            f"in: {', '.join(few)}."
        )
    yield (
        f"Intervals: Newcombe's for accuracy (the paper: {PAPER_IMAGES:,} images) and rates (the paper: its correct "
        "images), Welch's for means over flipped images with the paper's standard deviations (none where fewer than "
        "two images are flipped, or all give the same number). The two sets of images are taken as independent, since "
        "the paper gives no single images: on the same test images the intervals are rather too wide, so that of 100 "
        "numbers that are equal in truth at most about 5 differ by chance."
    )
    if any(claim.cell.startswith("noise") for claim in found):
        yield (
            "Noise: at the last stage. The paper gives no counts (and round numbers for figure 3), so its numbers are "
            "taken as exact; the interval is that of ours, a bootstrap over images (the figure's are t intervals). It "
            "needs noise.parquet, at least 6 images, and not the same count for all of them."
        )
    if any(claim.agreement == "other data" for claim in found):
        yield (
            f"Other data: measured on {experiment.data.name}, not on the images of the published numbers; no verdict "
            "can be given."
        )
