"""Robustness to Gaussian noise at the last stage of training, one row per pair and noise strength."""

from __future__ import annotations

from bangbench.reporting.collect import FoundNoise
from bangbench.reporting.groups import Group, prefix_of, short_name
from bangbench.reporting.per_image import cell_draws
from bangbench.reporting.published import FigureReference, pair_figure, published_label
from bangbench.reporting.rows import group_title, unfinished_note
from bangbench.reporting.table import (
    MISSING,
    SIGMA,
    Cell,
    Column,
    Row,
    Show,
    Table,
    csv_column,
    decimals,
    number,
    text,
)
from bangbench.reporting.verdicts import audit_notes, audit_of, show_rate, verdict_on
from bangbench.store.audits import PREDICTIONS
from bangbench.store.records import NoiseSummary

PAPER_DRAWS = 1000
PAPER_IMAGES_PER_CLASS = 100

_KINDS = (("Regular", "regular"), ("BANG", "bang"))

_INTERVALS = (
    "intervals: Clopper and Pearson's, from the copies of all images together, at the Bonferroni level for all models, "
    f"stages, {SIGMA} and rounds after which drawing could stop; they cover the drawing of noise, not the choice of "
    "images."
)

_NAMES = (
    Column("Pair", "Pair", (), text, "left"),
    csv_column("source"),
    csv_column("regular"),
    csv_column("bang"),
    csv_column("data"),
    csv_column("iteration"),
    Column("Images", "Images", ("images",), text),
)
_DRAWS = Column("Draws", "Draws", ("draws_per_image",), text)
_STRENGTH = Column(SIGMA, SIGMA, ("sigma_grey_levels",), text)
_DIFFERENCE = Column("Difference (points)", "Difference\npoints", ("difference_points",), decimals(2))


def _columns(group: Group) -> tuple[Column, ...]:
    show = show_rate(group)
    if not _is_stopped(group):
        percents = (_percent_column(title, kind, show) for title, kind in _KINDS)
        return (*_NAMES, _DRAWS, _STRENGTH, *percents, _DIFFERENCE)
    several = (
        column
        for title, kind in _KINDS
        for column in (
            Column(f"{title} draws", f"{title}\ndraws", (f"{kind}_draws_per_image",), text),
            _percent_column(title, kind, show),
            Column(f"{title} interval (%)", f"{title}\ninterval", _interval_fields(kind), _show_interval),
        )
    )
    return (*_NAMES, _STRENGTH, *several, _DIFFERENCE)


def _percent_column(title: str, kind: str, show: Show) -> Column:
    fields = f"{kind}_flipped_percent", f"{kind}_audit_verdict"
    return Column(f"{title} flipped (%)", f"{title}\nflipped %", fields, show)


def _interval_fields(kind: str) -> tuple[str, str]:
    return f"{kind}_flipped_low_percent", f"{kind}_flipped_high_percent"


def _show_interval(cell: Cell) -> str:
    low, high = cell
    return MISSING if low is None else f"[{number(low, 2)}, {number(high, 2)}]"


def _is_stopped(group: Group) -> bool:
    """Return whether any cell of a group may have stopped before its last draw."""
    return any(found.summary.precision is not None for found in group.noise)


def draws_text(summary: NoiseSummary) -> str:
    """Return in words how many draws each image had."""
    if summary.precision is None:
        return f"{summary.draws:,} draws each"
    return (
        f"up to {summary.draws:,} draws each, stopped at 95 % simultaneous intervals narrower than "
        f"{summary.precision:g} points"
    )


def paper_draws(summary: NoiseSummary) -> str:
    """Return the paper's number of draws in brackets where the measured one is or may be another, else nothing."""
    same = summary.draws == PAPER_DRAWS and summary.precision is None
    return "" if same else f" (the paper: {PAPER_DRAWS:,})"


def arithmetic_note(summary: NoiseSummary) -> str:
    """Return what a reduced arithmetic changed, in words without a stop; nothing where there was none."""
    if summary.arithmetic is None or summary.compared is None or summary.differing is None:
        return ""
    percent = 100.0 * summary.differing / summary.compared
    return (
        f"predictions in {summary.arithmetic}; of {summary.compared:,} copies that were predicted in float32 as well, "
        f"{summary.differing:,} ({percent:.3g} %) are flipped in one arithmetic and not in the other"
    )


def noise_table(group: Group) -> Table | None:
    """Return flipped draws in percent per sigma (grey levels) at the last stage; None without noise results."""
    if not group.noise:
        return None
    return Table(
        name=f"{group.name}-noise",
        title=f"{group_title(group)}; Gaussian noise at the last stage",
        columns=_columns(group),
        rows=tuple(row for found in group.noise for row in _rows(group, found)),
        notes=(
            "Percent of noisy copies not classified as the image's class; difference: regular minus BANG, above 0 "
            f"where BANG is flipped less. {SIGMA} in grey levels. The images are those that both models classify "
            "correctly at all stages.",
            *(note for found in group.noise for note in _notes(found)),
            *audit_notes(group, (PREDICTIONS,), _names(group)),
            *unfinished_note(group),
        ),
    )


def _names(group: Group) -> list[str]:
    return [info.name for found in group.noise for info in found.record.models]


def pair_title(found: FoundNoise) -> str:
    """Return the pair as a table names it: R0 vs B1; with their folders where these differ."""
    regular, bang = (info.name for info in found.record.models)
    if prefix_of(regular) != prefix_of(bang):
        return f"{regular} vs {bang}"
    return f"{short_name(regular)} vs {short_name(bang)}"


def last_stage(found: FoundNoise) -> int | None:
    """Return the iteration of the last stage; None where it is not known, as for imported weights."""
    unknown = found.summary.stages == (0,) and found.record.models[0].iterations is None
    return None if unknown else found.summary.stages[-1]


def _rows(group: Group, found: FoundNoise) -> list[Row]:
    record, summary = found.record, found.summary
    names: tuple[Cell, ...] = (
        (pair_title(found),),
        ("measured",),
        *((info.name,) for info in record.models),
        (record.data.name,),
        (last_stage(found),),
        (summary.images,),
    )
    draws = cell_draws(summary)[:, -1]
    rows = []
    for place, sigma in enumerate(summary.sigmas):
        percents = _percent_cells(group, found, place)
        regular, bang = (surface[-1][place] for surface in summary.flipped_percent)
        cells: tuple[Cell, ...]
        if _is_stopped(group):
            intervals = _interval_cells(summary, place)
            taken = ((int(count),) for count in draws[:, place])
            cells = ((sigma,), *(cell for model in zip(taken, percents, intervals, strict=True) for cell in model))
        else:
            cells = ((summary.draws,), (sigma,), *percents)
        rows.append(Row("measured", (*names, *cells, (regular - bang,))))
    return rows


def _percent_cells(group: Group, found: FoundNoise, place: int) -> list[Cell]:
    """Return the flipped copies of both models at the last stage under one sigma, with the audits' verdicts."""
    return [
        (surface[-1][place], verdict_on(audit_of(group, info), PREDICTIONS))
        for surface, info in zip(found.summary.flipped_percent, found.record.models, strict=True)
    ]


def _interval_cells(summary: NoiseSummary, place: int) -> list[Cell]:
    if summary.flipped_interval is None:
        return [(None, None)] * len(_KINDS)
    return [surface[-1][place] for surface in summary.flipped_interval]


def _notes(found: FoundNoise) -> list[str]:
    summary, pair = found.summary, pair_title(found)
    counts = f"{summary.images:,} images, {draws_text(summary)}{paper_draws(summary)}"
    notes = [f"{pair}: {_stages(found)}; {counts}."]
    if summary.precision is not None:
        notes.append(f"{pair}: {_INTERVALS}")
    if reduced := arithmetic_note(summary):
        notes.append(f"{pair}: {reduced}.")
    if short := _short_classes(found):
        notes.append(f"{pair}: {short} (the paper: {PAPER_IMAGES_PER_CLASS}).")
    if found.record.spec.get("clip") is False:
        notes.append(f"{pair}: noisy copies neither rounded nor clipped to 0 to 255.")
    return notes + _published_note(found)


def _stages(found: FoundNoise) -> str:
    """Return how many stages were measured, and the iteration of the last one."""
    stage, count = last_stage(found), len(found.summary.stages)
    if stage is None:
        return "the final models"
    return f"{count} stages, the last at iteration {stage:,}" if count > 1 else f"one stage, at iteration {stage:,}"


def _short_classes(found: FoundNoise) -> str:
    """Return how many images the classes gave where some gave fewer than the paper's, else nothing."""
    low, high = min(found.summary.images_per_class), max(found.summary.images_per_class)
    if low >= PAPER_IMAGES_PER_CLASS:
        return ""
    return f"{low} images per class" if low == high else f"{low} to {high} images per class"


def _published_note(found: FoundNoise) -> list[str]:
    reference = pair_figure(found)
    return [] if reference is None else [f"{pair_title(found)}, {published_ends(found, reference)}"]


def published_ends(found: FoundNoise, reference: FigureReference) -> str:
    """Return the paper's numbers about a pair in words, from what they are called beside the measured ones on."""
    figure, label = reference.figure, published_label(found.record.data, reference.dataset)
    about = "about " if figure.approximate else ""
    return (
        f"{label}, figure {reference.number} at {SIGMA} {figure.sigma:g}, last stage: "
        f"regular {about}{figure.regular_percent:g} %, BANG {about}{figure.bang_percent:g} %."
    )
