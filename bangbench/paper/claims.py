"""The table of claims: each published number, ours, and whether they agree, with what that rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from bangbench.core.errors import BenchError
from bangbench.paper.agreement import PAPER_IMAGES, Claim, Unit, claims
from bangbench.paper.published import published
from bangbench.paper.tables import ATTACKS
from bangbench.reporting.experiments import UNMASKED, Experiment
from bangbench.reporting.frames import Frames, Values
from bangbench.reporting.table import (
    KIND,
    MISSING,
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
            Column("Published", _by_unit("published"), _shown(_show_one, 1)),
            Column("Ours", _by_unit("ours"), _shown(_show_one, 1)),
            *([words("Audit", "audit_verdict")] if experiment.audited else []),
            whole("Seeds"),
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
