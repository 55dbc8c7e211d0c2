"""Robustness to Gaussian noise at the last stage of training, one row per pair and noise strength."""

from __future__ import annotations

from bangbench.report.collect import FoundNoise
from bangbench.report.groups import Group, prefix_of, short_name
from bangbench.report.published import FigureReference, pair_figure, published_label
from bangbench.report.rows import group_title, unfinished_note
from bangbench.report.table import SIGMA, Column, Row, Table, csv_column, decimals, text
from bangbench.report.verdicts import audit_notes, audit_of, show_rate, verdict_on
from bangbench.store.audits import PREDICTIONS

PAPER_DRAWS = 1000
PAPER_IMAGES_PER_CLASS = 100

_NAMES = (
    Column("Pair", "Pair", (), text, "left"),
    csv_column("source"),
    csv_column("regular"),
    csv_column("bang"),
    csv_column("data"),
    csv_column("iteration"),
    Column("Images", "Images", ("images",), text),
    Column("Draws", "Draws", ("draws_per_image",), text),
    Column(SIGMA, SIGMA, ("sigma_grey_levels",), text),
)


def _columns(group: Group) -> tuple[Column, ...]:
    show = show_rate(group)
    regular, bang = (f"{kind}_flipped_percent" for kind in ("regular", "bang"))
    return (
        *_NAMES,
        Column("Regular flipped (%)", "Regular\nflipped %", (regular, "regular_audit_verdict"), show),
        Column("BANG flipped (%)", "BANG\nflipped %", (bang, "bang_audit_verdict"), show),
        Column("Difference (points)", "Difference\npoints", ("difference_points",), decimals(2)),
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
    return [info.name for found in group.noise for info in (found.record.regular, found.record.bang)]


def pair_title(found: FoundNoise) -> str:
    """Return the pair as a table names it: R0 vs B1; with their folders where these differ."""
    regular, bang = found.record.regular.name, found.record.bang.name
    if prefix_of(regular) != prefix_of(bang):
        return f"{regular} vs {bang}"
    return f"{short_name(regular)} vs {short_name(bang)}"


def last_stage(found: FoundNoise) -> int | None:
    """Return the iteration of the last stage; None where it is not known, as for imported weights."""
    unknown = found.summary.stages == (0,) and found.record.regular.iterations is None
    return None if unknown else found.summary.stages[-1]


def _rows(group: Group, found: FoundNoise) -> list[Row]:
    record, summary = found.record, found.summary
    verdicts = [verdict_on(audit_of(group, info), PREDICTIONS) for info in (record.regular, record.bang)]
    last = zip(summary.sigmas, summary.flipped_percent["regular"][-1], summary.flipped_percent["bang"][-1], strict=True)
    return [
        Row(
            "measured",
            (
                (pair_title(found),),
                ("measured",),
                (record.regular.name,),
                (record.bang.name,),
                (record.data.name,),
                (last_stage(found),),
                (summary.images,),
                (summary.draws,),
                (sigma,),
                (regular, verdicts[0]),
                (bang, verdicts[1]),
                (regular - bang,),
            ),
        )
        for sigma, regular, bang in last
    ]


def _notes(found: FoundNoise) -> list[str]:
    summary, pair = found.summary, pair_title(found)
    paper = f" (the paper: {PAPER_DRAWS:,})" if summary.draws != PAPER_DRAWS else ""
    notes = [f"{pair}: {_stages(found)}; {summary.images:,} images, {summary.draws:,} draws each{paper}."]
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
    reference = pair_figure(found.record.regular, found.record.bang)
    return [] if reference is None else [f"{pair_title(found)}, {published_ends(found, reference)}"]


def published_ends(found: FoundNoise, reference: FigureReference) -> str:
    """Return the paper's numbers about a pair in words, from what they are called beside the measured ones on."""
    figure, label = reference.figure, published_label(found.record.data, reference.dataset)
    about = "about " if figure.approximate else ""
    return (
        f"{label}, figure {reference.number} at {SIGMA} {figure.sigma:g}, last stage: "
        f"regular {about}{figure.regular_percent:g} %, BANG {about}{figure.bang_percent:g} %."
    )
