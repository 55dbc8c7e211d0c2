"""Gaussian noise: the table at the last stage of training, and the lines over the stages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bangbench.core.statistics import t_interval_ends
from bangbench.reporting.attack_tables import rate_show
from bangbench.reporting.collect import FoundNoise, short_name
from bangbench.reporting.experiments import Experiment, natural_key
from bangbench.reporting.figure import Chart, Figure, Panel, Series
from bangbench.reporting.frames import Frames, records_of
from bangbench.reporting.seeds import recipes
from bangbench.reporting.table import (
    SIGMA,
    Cell,
    Column,
    Table,
    audit_notes,
    interval_text,
    make_table,
    real,
    whole,
    words,
)
from bangbench.store.audits import PREDICTIONS
from bangbench.store.fewer import FEWER, FEWER_MEANS, fewer_flipped
from bangbench.store.records import NoiseSummary

_PAPER_DRAWS = 1000
#: Percent; a noise strength that flips fewer copies than this at every stage, of every model, makes no line.
_NEGLIGIBLE = 1.0


def noise_table(experiment: Experiment, frames: Frames) -> Table | None:
    """Return flipped draws in percent per model and sigma at the last stage; None without noise results."""
    last = records_of(frames.noise[frames.noise["is_last"]])
    shown = [
        names for found in experiment.noise for info in found.record.models if (names := experiment.find(info.name))
    ]
    key = ("evolution", "sigma_grey_levels")
    references = {
        tuple(row[name] for name in key): row["flipped_percent"] for row in last if row["model"] == row["reference"]
    }
    stops = any(found.summary.precision is not None for found in experiment.noise)
    rows = [
        {
            "evolution": row["evolution"],
            "source": "measured",
            "sigma_grey_levels": row["sigma_grey_levels"],
            "id": row["id"],
            **{name: row[name] for name in ("model", "reference", "data")},
            "iteration": row["stage"],
            "images": row["images"],
            "draws_per_image": row["draws"],
            "flipped_percent": row["flipped_percent"],
            "flipped_low_percent": row["low_percent"],
            "flipped_high_percent": row["high_percent"],
            "audit_verdict": row["audit_verdict"],
            "difference_points": fewer_flipped(references[tuple(row[name] for name in key)], row["flipped_percent"])
            if row["model"] != row["reference"]
            else None,
        }
        for row in sorted(last, key=lambda row: (natural_key(row["evolution"]), row["sigma_grey_levels"]))
    ]
    interval = Column("95 % interval", ("flipped_low_percent", "flipped_high_percent"), _show_ends)
    return make_table(
        f"{experiment.name}-noise",
        f"{experiment.title}; Gaussian noise at the last stage",
        rows,
        (
            words("Models", "evolution"),
            real(SIGMA, "sigma_grey_levels", 0),
            words("ID"),
            whole("Images", "images"),
            whole("Draws", "draws_per_image"),
            Column("Flipped (%)", ("flipped_percent", "audit_verdict"), rate_show(experiment)),
            *([interval] if stops else []),
            real(FEWER, "difference_points", 2),
        ),
        (
            f"Percent of noisy copies not classified as the image's class; {FEWER_MEANS}. {SIGMA} in grey levels. The "
            "images are those that all of the models classify correctly at all stages.",
            *(note for found in experiment.noise for note in _noise_notes(found)),
            *audit_notes(experiment, (PREDICTIONS,), shown),
        ),
    )


def _show_ends(cell: Cell) -> str:
    return "" if cell[0] is None else interval_text((cell[0], cell[1]), 2)


def draws_text(summary: NoiseSummary) -> str:
    """Return in words how many draws each image had, and the paper's number where that is or may be another."""
    if summary.precision is not None:
        return (
            f"up to {summary.draws:,} draws each, stopped at 95 % simultaneous intervals narrower than "
            f"{summary.precision:g} points (the paper: {_PAPER_DRAWS:,})"
        )
    return f"{summary.draws:,} draws each" + (
        "" if summary.draws == _PAPER_DRAWS else f" (the paper: {_PAPER_DRAWS:,})"
    )


def arithmetic_note(summary: NoiseSummary) -> str:
    """Return what a reduced arithmetic changed, in words without a stop; nothing where there was none."""
    if summary.arithmetic is None or summary.compared is None or summary.differing is None:
        return ""
    percent = 100.0 * summary.differing / summary.compared
    return (
        f"predictions in {summary.arithmetic}; of {summary.compared:,} copies that were predicted in float32 as well, "
        f"{summary.differing:,} ({percent:.3g} %) are flipped in one arithmetic and not in the other"
    )


def _noise_notes(found: FoundNoise) -> Iterator[str]:
    summary, models, stage = found.summary, found.title, found.last_stage
    count = len(summary.stages)
    where = "the final models" if stage is None else f"one stage, at iteration {stage:,}"
    where = f"{count} stages, the last at iteration {stage:,}" if count > 1 else where
    yield f"{models}: {where}; {summary.images:,} images, {draws_text(summary)}."
    if summary.precision is not None:
        yield (
            f"{models}: intervals: Clopper and Pearson's, from the copies of all images together, at the Bonferroni "
            f"level for all models, stages, {SIGMA} and rounds after which drawing could stop; they cover the drawing "
            "of noise, not the choice of images."
        )
    if reduced := arithmetic_note(summary):
        yield f"{models}: {reduced}."
    low, high = min(summary.images_per_class), max(summary.images_per_class)
    if low < 100:
        yield f"{models}: {low if low == high else f'{low} to {high}'} images per class (the paper: 100)."
    if found.record.spec.get("clip") is False:
        yield f"{models}: noisy copies neither rounded nor clipped to 0 to 255."


def evolutions_alike(experiment: Experiment) -> list[list[FoundNoise]]:
    """Return the noise evolutions by what their models have in common but the seed, the lowest seeds first."""
    alike = {model.name: models[0].name for models in recipes(experiment.everyone) for model in models}
    groups: dict[tuple[str, ...], list[FoundNoise]] = {}
    for found in experiment.noise:
        names = (info.name for info in found.record.models)
        groups.setdefault(tuple(alike.get(name, name) for name in names), []).append(found)
    return [
        sorted(group, key=lambda found: [info.seed or 0 for info in found.record.models]) for group in groups.values()
    ]


def evolutions_to_draw(experiment: Experiment) -> list[FoundNoise]:
    """Return one noise evolution of those alike but for seeds: with the most stages and, of these, the most copies."""
    alike = evolutions_alike(experiment)
    return [max(group, key=lambda found: (len(found.summary.stages), found.summary.forwards)) for group in alike]


def noise_figures(experiment: Experiment) -> Iterator[Figure]:
    """Yield flipped copies of the noise evolutions: against the iteration at chosen sigmas, or against sigma."""
    for found in evolutions_to_draw(experiment):
        stages, strengths = len(found.summary.stages), chosen_sigmas(found)
        over = f"against {SIGMA}, {_stage(found, 0)}"
        panels: tuple[Panel, ...] = (_noise_panel(found, None),)
        if stages > 1:
            told = ", ".join(f"{found.summary.sigmas[place]:g}" for place in strengths)
            over = f"against the iteration of training at {SIGMA} {told}, each panel with its own scale"
            panels = tuple(_noise_panel(found, place) for place in strengths)
        yield Figure(
            name=f"{found.name.replace('/', '-')}-noise-lines",
            section="noise",
            title=f"Gaussian noise: {found.title}",
            caption=(
                f"{noise_definition(found)} {over}. {noise_counts(found)} {_noise_intervals(found)} "
                f"{noise_verdicts(experiment, found)}"
            ).strip(),
            alternative=f"Lines over {'the iteration' if stages > 1 else SIGMA}. {noise_in_words(found)}",
            content=Chart(panels, len(panels), shared=False),
        )


def noise_definition(found: FoundNoise) -> str:
    """Return what the percentages of a noise evolution are, without a stop."""
    unclipped = ", neither rounded nor clipped to 0 to 255," if found.record.spec.get("clip") is False else ""
    return f"Percent of copies with Gaussian noise ({SIGMA} in grey levels){unclipped} not classified as their class"


def noise_counts(found: FoundNoise) -> str:
    """Return which images were measured, and how many draws."""
    counts = (
        f"n = {found.summary.images:,} images of {found.record.data.name} that all of the models classify correctly "
        f"at all stages, {draws_text(found.summary)}."
    )
    reduced = arithmetic_note(found.summary)
    return f"{counts} {reduced[0].upper()}{reduced[1:]}." if reduced else counts


def noise_verdicts(experiment: Experiment, found: FoundNoise) -> str:
    """Return what the audits say of the models' predictions, where one of them is audited."""
    models = [model for info in found.record.models if (model := experiment.find(info.name)) is not None]
    if not any(model.audit for model in models):
        return ""
    return f"Audit of the predictions: {', '.join(f'{each.id} {each.verdict(PREDICTIONS)}' for each in models)}."


def noise_in_words(found: FoundNoise) -> str:
    """Return the first and the last stage under the strongest noise."""
    strongest = int(np.argmax(found.summary.sigmas))
    told = []
    for stage in sorted({0, len(found.summary.stages) - 1}):
        each = (
            f"{surface[stage][strongest]:.2f} % of the copies flipped for {short_name(info.name)}"
            for surface, info in zip(found.summary.flipped_percent, found.record.models, strict=True)
        )
        told.append(f"{_stage(found, stage)}: {', '.join(each)}")
    return f"At {SIGMA} {found.summary.sigmas[strongest]:g}, {'; '.join(told)}."


def chosen_sigmas(found: FoundNoise) -> list[int]:
    """Return the places of the sigmas to draw lines at: a third, two thirds and all of those that flip anything."""
    order = np.argsort(found.summary.sigmas, kind="stable")
    percent = np.array(found.summary.flipped_percent)[:, :, order]
    flips = np.flatnonzero(percent.max(axis=(0, 1)) >= _NEGLIGIBLE)
    chosen = {len(order) - 1}
    if len(flips):
        chosen |= {int(flips[-(-len(flips) * part // 3) - 1]) for part in (1, 2)}
    return [int(order[place]) for place in sorted(chosen)]


def _stage(found: FoundNoise, place: int) -> str:
    return "the final models" if found.last_stage is None else f"at iteration {found.summary.stages[place]:,}"


def _noise_panel(found: FoundNoise, sigma: int | None) -> Panel:
    """Return the lines of all models at one sigma over the stages, or (None) at the only stage over the sigmas."""
    order = np.argsort(found.summary.sigmas, kind="stable")
    cells = (slice(None), 0, order) if sigma is None else (slice(None), slice(None), sigma)
    percent = np.array(found.summary.flipped_percent, dtype=np.float64)[cells]
    x = np.array(found.summary.sigmas, dtype=np.float64)[order] if sigma is None else np.array(found.summary.stages)
    low, high = np.empty((len(percent), 0)), np.empty((len(percent), 0))
    if found.percent is not None and found.summary.images > 1:
        low, high = t_interval_ends(found.percent[cells])
        low, high = np.maximum(low, 0.0), np.minimum(high, 100.0)
    series = tuple(
        Series(
            short_name(info.name),
            tuple(x.tolist()),
            tuple(percent[place].tolist()),
            tuple(low[place].tolist()),
            tuple(high[place].tolist()),
            number=place,
            marked=sigma is None,
        )
        for place, info in enumerate(found.record.models)
    )
    title = "" if sigma is None else f"{SIGMA} = {found.summary.sigmas[sigma]:g}"
    return Panel(series, title, f"noise {SIGMA} (grey levels)" if sigma is None else "iteration", "flipped copies (%)")


def _noise_intervals(found: FoundNoise) -> str:
    """Say what the bands are, or why there are none; and how far the models are apart at the strongest noise."""
    percent = found.percent
    if percent is None:
        return "Without confidence intervals: the counts of the single images are missing."
    if found.summary.images < 2:
        return "Without confidence intervals: there is one image only."
    several, strongest = len(found.summary.stages) > 1, int(np.argmax(found.summary.sigmas))
    told = []
    for place, info in enumerate(found.record.models[1:], start=1):
        apart = fewer_flipped(percent[0, -1, strongest], percent[place, -1, strongest])
        low, high = (float(end) for end in t_interval_ends(apart))
        interval = "the same for every image, so without an interval" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"
        told.append(f"{short_name(info.name)} {np.mean(apart):.2f} percentage points {interval}")
    return (
        f"{'Bands' if several else 'Bars'}: 95 % t intervals of the mean over images (the draws of one image are not "
        "independent); none where all images have the same number. Flipped less than "
        f"{short_name(found.record.models[0].name)} at {SIGMA} {found.summary.sigmas[strongest]:g}"
        f"{', last stage' if several else ''}: {'; '.join(told)}."
    )
