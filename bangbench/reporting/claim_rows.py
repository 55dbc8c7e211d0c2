"""Every published number beside the one measured here: where they agree, as far as can be told."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from bangbench.core.statistics import Interval, mean_interval, newcombe_interval, welch_interval
from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.groups import Group, ModelResults, short_name
from bangbench.reporting.noise_rows import pair_title
from bangbench.reporting.published import (
    FigureReference,
    PublishedAttack,
    PublishedRow,
    is_published_data,
    pair_figure,
    published,
    published_row,
)
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import (
    MISSING,
    SIGMA,
    Cell,
    Column,
    Row,
    Show,
    Table,
    Value,
    csv_column,
    number,
    text,
)
from bangbench.reporting.verdicts import (
    UNMASKED,
    audit_notes,
    audit_of,
    is_masked,
    measured_names,
    unmasked_claim,
    verdict_on,
)
from bangbench.store.audits import PREDICTIONS
from bangbench.store.records import AttackSummary, Moments

Verdict = Literal["agrees", "differs", "not measured", "no interval", "other data"]
Unit = Literal["percent", "grey_levels", "pass"]

#: The paper's test images: 10,000 of MNIST and of CIFAR-10.
PAPER_IMAGES = 10_000
#: With fewer images than this an interval is so wide that agreement says little.
_FEW_IMAGES = 1000

_UNITS: tuple[Unit, ...] = ("percent", "pass", "grey_levels")
_PLACES: dict[Unit, int] = {"percent": 2, "pass": 4, "grey_levels": 2}
_ATTACKS = ("fgs", "hc1")


class Claim(NamedTuple):
    """One published number and ours, in the unit `unit`.

    interval: of ours minus published (percentage points where the unit is percent); images: behind our number; audit:
    whether our number is what it seems to be; unmasked: ours of the unmasked twin, where an attack is masked.
    """

    model: str
    cell: str
    unit: Unit
    published: float
    ours: float | None
    interval: Interval | None
    verdict: Verdict
    images: int | None = None
    audit: str | None = None
    unmasked: tuple[float | None, str] | None = None


def claim_table(group: Group) -> Table | None:
    """Return a verdict on every published number about a group's models; None where the paper has none."""
    found = claims(group)
    if not found:
        return None
    return Table(
        name=f"{group.name}-claims",
        title=f"{group_title(group)}; published numbers against measured ones",
        columns=_columns(group),
        rows=tuple(row for claim in found for row in _rows(group, claim)),
        notes=(
            _counts(found),
            *_notes(group, found),
            *audit_notes(group, (PREDICTIONS, *_ATTACKS), measured_names(group)),
            *unfinished_note(group),
        ),
    )


def claims(group: Group) -> tuple[Claim, ...]:
    """Return every published number about the models and noise pairs of a group, with ours where it was measured."""
    return tuple(claim for part in (_row_claims(group), _noise_claims(group)) for claim in part)


def _row_claims(group: Group) -> Iterator[Claim]:
    for model in group.attacked:
        reference = published_row(model.model, group.data, model.card)
        if reference is None:
            continue
        same_data = is_published_data(group.data, reference.dataset)
        yield _accuracy_claim(model, reference.row, same_data)
        for attack, printed in zip(_ATTACKS, (reference.row.fgs, reference.row.hc1), strict=True):
            for claim in _attack_claims(model, attack, _Printed(reference.row, printed), same_data):
                yield _judged(claim, model, attack)


def _judged(claim: Claim, model: ModelResults, attack: str) -> Claim:
    """Return a claim about an attack with the audit's verdict and, where that is masked, the twin's number."""
    if claim.ours is None:
        return claim
    judged = claim._replace(audit=verdict_on(model.audit, attack))
    if claim.unit == "pass" or not is_masked(model, attack):
        return judged
    found = model.summary(f"{attack}{UNMASKED}") or unmasked_claim(model, attack)
    if found is None:
        return judged
    number_of = found.rate if claim.unit == "percent" else None if found.linf is None else found.linf.mean
    return judged._replace(unmasked=(number_of, verdict_on(model.audit, f"{attack}{UNMASKED}")))


class _Printed(NamedTuple):
    """A published attack and the row that it stands in, with the counts that follow from its rounded percentages."""

    row: PublishedRow
    attack: PublishedAttack

    @property
    def correct(self) -> int:
        return _paper_count(self.row.accuracy, PAPER_IMAGES)

    @property
    def flipped(self) -> int:
        return _paper_count(self.attack.rate, self.correct)


def _paper_count(percent: float, images: int) -> int:
    return round(percent / 100.0 * images)


def _accuracy_claim(model: ModelResults, row: PublishedRow, same_data: bool) -> Claim:
    ours = next(iter(model.attacks.values())).summary
    correct = _paper_count(row.accuracy, PAPER_IMAGES)
    interval = newcombe_interval(ours.correct, ours.images, correct, PAPER_IMAGES)
    claim = _claim(short_name(model.name), "accuracy", "percent", (row.accuracy, ours.accuracy), interval, same_data)
    return claim._replace(images=ours.images, audit=verdict_on(model.audit, PREDICTIONS))


def _attack_claims(model: ModelResults, attack: str, printed: _Printed, same_data: bool) -> Iterator[Claim]:
    """Yield rate, PASS and L_inf of one attack."""
    name, title, paper = short_name(model.name), attack.upper(), printed.attack
    summary = model.summary(attack)
    if summary is None:
        yield _not_measured(name, f"{title} rate", "percent", paper.rate)
        yield _not_measured(name, f"{title} PASS", "pass", paper.pass_paper[0])
        yield _not_measured(name, f"{title} L∞", "grey_levels", paper.linf[0])
        return
    rate = newcombe_interval(summary.flipped, summary.correct, printed.flipped, printed.correct)
    score = _mean_interval(summary, summary.pass_paper, paper.pass_paper, printed)
    linf = _mean_interval(summary, summary.linf, paper.linf, printed)
    scores, sizes = (paper.pass_paper[0], summary.pass_paper.mean), (paper.linf[0], summary.linf.mean)
    found = _claim(name, f"{title} rate", "percent", (paper.rate, summary.rate), rate, same_data)
    yield found._replace(images=summary.correct)
    yield _claim(name, f"{title} PASS", "pass", scores, score, same_data)._replace(images=summary.flipped)
    yield _claim(name, f"{title} L∞", "grey_levels", sizes, linf, same_data)._replace(images=summary.flipped)


def _mean_interval(
    summary: AttackSummary, ours: Moments, paper: tuple[float, float], printed: _Printed
) -> Interval | None:
    """Return Welch's interval of our mean minus the paper's; None of fewer than two flipped images or equal numbers."""
    count = summary.flipped
    if ours.mean is None or ours.std is None or count < 2:
        return None
    sample_std = ours.std * math.sqrt(count / (count - 1))  # records hold the population's
    return welch_interval(ours.mean, sample_std, count, *paper, printed.flipped)


def _noise_claims(group: Group) -> Iterator[Claim]:
    """Yield both ends of the figure about each pair: the last stage under the strongest noise."""
    for found in group.noise:
        reference = pair_figure(found)
        if reference is not None:
            yield _noise_claim(group, found, reference, 0)
            yield _noise_claim(group, found, reference, 1)


def _noise_claim(group: Group, found: FoundNoise, reference: FigureReference, which: Literal[0, 1]) -> Claim:
    """Return the end of one of the models: 0 regular, 1 BANG. The published number is taken as exact."""
    figure, summary = reference.figure, found.summary
    same_data = is_published_data(group.data, reference.dataset)
    paper = (figure.regular_percent, figure.bang_percent)[which]
    cell = f"noise {SIGMA} {figure.sigma:g}, {('regular', 'BANG')[which]}"
    if figure.sigma not in summary.sigmas:
        return _not_measured(pair_title(found), cell, "percent", paper)
    place = summary.sigmas.index(figure.sigma)
    surface = summary.flipped_percent[which]
    interval = None
    if found.rows is not None:
        estimate = mean_interval(found.rows.percent[which, -1, place])
        if estimate is not None and estimate.interval is not None:
            interval = estimate.interval[0] - paper, estimate.interval[1] - paper
    claim = _claim(pair_title(found), cell, "percent", (paper, surface[-1][place]), interval, same_data)
    audit = audit_of(group, found.record.models[which])
    return claim._replace(images=summary.images, audit=verdict_on(audit, PREDICTIONS))


def _not_measured(model: str, cell: str, unit: Unit, paper: float) -> Claim:
    return Claim(model, cell, unit, paper, None, None, "not measured")


def _claim(
    model: str, cell: str, unit: Unit, numbers: tuple[float, float | None], interval: Interval | None, same_data: bool
) -> Claim:
    """Return a claim that was measured, `numbers` being the published one and ours, with its verdict."""
    paper, ours = numbers
    verdict: Verdict = "other data"
    if same_data:
        verdict = _verdict(interval)
    return Claim(model, cell, unit, paper, ours, interval if ours is not None else None, verdict)


def _verdict(interval: Interval | None) -> Verdict:
    if interval is None:
        return "no interval"
    return "differs" if interval[0] > 0.0 or interval[1] < 0.0 else "agrees"


def _by_unit(prefix: str, ends: tuple[str, ...] = ("",)) -> tuple[str, ...]:
    """Return a CSV header for every unit and end; a row fills those of its own unit."""
    difference = prefix == "difference"
    names = ["points" if difference and unit == "percent" else unit for unit in _UNITS]
    return tuple(f"{prefix}{end}_{name}" for name in names for end in ends)


def _in_unit(claim: Claim, values: tuple[Value, ...]) -> Cell:
    """Return values in the places of the claim's unit."""
    empty = (None,) * len(values)
    return tuple(value for unit in _UNITS for value in (values if unit == claim.unit else empty))


def _shown(show: Callable[[tuple[Value, ...], int], str], size: int) -> Show:
    """Return a function that shows the numbers of the one unit that a cell has, `size` of them per unit."""

    def shown(cell: Cell) -> str:
        for place, unit in enumerate(_UNITS):
            values = cell[place * size : (place + 1) * size]
            if values[0] is not None:
                return show(values, _PLACES[unit])
        return MISSING

    return shown


def _show_interval(values: tuple[Value, ...], places: int) -> str:
    low, high = values
    return f"[{number(low, places)}, {number(high, places)}]"


def _show_one(values: tuple[Value, ...], places: int) -> str:
    return number(values[0], places)


def _columns(group: Group) -> tuple[Column, ...]:
    return (
        Column("Model", "Model", ("model",), text, "left"),
        csv_column("data"),
        Column("Number", "Number", ("cell",), text, "left"),
        Column("Published", "Published", _by_unit("published"), _shown(_show_one, 1)),
        Column("Ours", "Ours", _by_unit("ours"), _shown(_show_one, 1)),
        Column("Audit", "Audit", ("audit_verdict",), text if group.audits else None, "left"),
        Column("Difference", "Difference", _by_unit("difference"), _shown(_show_one, 1)),
        Column("95 % interval", "Interval", _by_unit("difference", ("_low", "_high")), _shown(_show_interval, 2)),
        Column("Verdict", "Verdict", ("verdict",), text, "left"),
    )


def _rows(group: Group, claim: Claim) -> list[Row]:
    """Return a claim's row and, where it is masked, one of the same number under the unmasked twin of the attack."""
    rows = [Row("measured", _cells(group, claim))]
    if claim.unmasked is not None:
        ours, audit = claim.unmasked
        attack, _, what = claim.cell.partition(" ")
        cells = (
            (claim.model,),
            (group.data.name,),
            (f"{attack}{UNMASKED} {what}",),
            _in_unit(claim, (None,)),
            _in_unit(claim, (ours,)),
            (audit,),
            _in_unit(claim, (None,)),
            _in_unit(claim, (None, None)),
            ("not published",),
        )
        rows.append(Row("unmasked", cells))
    return rows


def _cells(group: Group, claim: Claim) -> tuple[Cell, ...]:
    difference = None if claim.ours is None else claim.ours - claim.published
    return (
        (claim.model,),
        (group.data.name,),
        (claim.cell,),
        _in_unit(claim, (claim.published,)),
        _in_unit(claim, (claim.ours,)),
        (claim.audit,),
        _in_unit(claim, (difference,)),
        _in_unit(claim, claim.interval or (None, None)),
        (claim.verdict,),
    )


def _counts(found: Sequence[Claim]) -> str:
    """Return how many numbers agree, differ, were not measured and, where there are such, the others; what it says."""
    counts = Counter(claim.verdict for claim in found)
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


def _few_images(found: Sequence[Claim]) -> list[str]:
    """Name the numbers that agree on the strength of few images."""
    few = [
        f"{claim.model} {claim.cell} ({claim.images:,})"
        for claim in found
        if claim.verdict == "agrees" and claim.images is not None and claim.images < _FEW_IMAGES
    ]
    if not few:
        return []
    return [
        f"Few images agree with nearly every number. Fewer than {_FEW_IMAGES:,} are behind ours where it agrees in: "
        f"{', '.join(few)}."
    ]


def _notes(group: Group, found: Sequence[Claim]) -> tuple[str, ...]:
    notes = [
        f"Published: {published().source.title} (arXiv {published().source.arxiv}). Accuracy, rates and noise in "
        "percent, their difference (ours minus published) in percentage points; L∞ in grey levels; PASS of ours is "
        "pass_paper, which was matched empirically to the paper's Table 1.",
        "A number agrees where the 95 % interval of the difference includes zero. The interval covers the sampling of "
        "images, not training with another seed: a model trained again can differ and the paper still be right.",
        *_few_images(found),
        f"Intervals: Newcombe's for accuracy (the paper: {PAPER_IMAGES:,} images) and rates (the paper: its correct "
        "images), Welch's for means over flipped images with the paper's standard deviations (none where fewer than "
        "two images are flipped, or all give the same number). The two sets of images are taken as independent, since "
        "the paper gives no single images: on the same test images the intervals are rather too wide, so that of 100 "
        "numbers that are equal in truth at most about 5 differ by chance.",
    ]
    if any(claim.cell.startswith("noise") for claim in found):
        notes.append(
            "Noise: at the last stage. The paper gives no counts (and round numbers for figure 3), so its numbers are "
            "taken as exact; the interval is that of ours, a bootstrap over images (the figure's are t intervals). It "
            "needs noise.parquet, at least 6 images, and not the same count for all of them."
        )
    if any(claim.verdict == "other data" for claim in found):
        notes.append(
            f"Other data: measured on {group.data.name}, not on the images of the published numbers; no verdict can "
            "be given."
        )
    return tuple(notes)
