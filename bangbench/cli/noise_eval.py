"""`bangbench noise-eval`."""

from __future__ import annotations

import itertools

import typer
from rich.table import Table

from bangbench.cli.before import check_noise
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.noise.spec import NoiseSpec
from bangbench.store.fewer import FEWER, FEWER_MEANS, fewer_flipped
from bangbench.store.records import NoiseRecord, NoiseSummary


def run_noise(specs: list[NoiseSpec], output: Output) -> None:
    """Follow the robustness of models to Gaussian noise through their training, the first being the reference.

    Every model and stage sees the same noisy copies of the same images: those that all models classify correctly at
    every stage.
    """
    for spec in specs:
        check_noise(spec)
    from bangbench.noise.run import evolve

    for spec in specs:
        record = evolve(spec, output.progress())
        if output.json:
            output.print_json(record.model_dump(mode="json", by_alias=True))
        elif not output.quiet:
            output.console().print(noise_summary(record))


def noise_summary(record: NoiseRecord) -> Table:
    """Return the flipped draws of all models at the last stage."""
    summary = record.summary
    if summary is None:
        return Table(title="unfinished")
    stopped = summary.precision is not None
    names = " and ".join(info.name for info in record.models)
    table = Table(
        title=f"{names} at iteration {summary.stages[-1]}: noisy copies not "
        f"classified correctly, {summary.images} images, {_draws(summary)}",
        title_justify="left",
        caption=_caption(record, summary),
        caption_justify="left",
    )
    extra = ("interval", "draws") if stopped else ()
    table.add_column("sigma (grey levels)", justify="right")
    for model, info in enumerate(record.models):
        for header in (f"{info.name} %", *extra, *((FEWER,) if model else ())):
            table.add_column(header, justify="right")
    for place, sigma in enumerate(summary.sigmas):
        cells = (_cells(summary, model, place) for model in range(len(record.models)))
        table.add_row(f"{sigma:g}", *itertools.chain.from_iterable(cells))
    return table


def _cells(summary: NoiseSummary, model: int, place: int) -> tuple[str, ...]:
    """Return a model's percentage at the last stage, how it was stopped, and how much less than the first's it is."""
    reference, percent = (summary.flipped_percent[which][-1][place] for which in (0, model))
    fewer = (f"{fewer_flipped(reference, percent):.2f}",) if model else ()
    return (f"{percent:.2f}", *_stopping(summary, model, place), *fewer)


def _draws(summary: NoiseSummary) -> str:
    if summary.precision is None:
        return f"{summary.draws} draws each"
    return f"up to {summary.draws} draws each, stopped at intervals narrower than {summary.precision:g} points"


def _stopping(summary: NoiseSummary, model: int, place: int) -> tuple[str, ...]:
    """Return the interval and the draws of a model at the last stage; nothing where every draw was taken."""
    if summary.flipped_interval is None or summary.draws_used is None:
        return ()
    low, high = summary.flipped_interval[model][-1][place]
    return f"[{low:.2f}, {high:.2f}]", str(summary.draws_used[model][-1][place])


def _caption(record: NoiseRecord, summary: NoiseSummary) -> str:
    lines = [FEWER_MEANS] if len(record.models) > 1 else []
    if summary.arithmetic is None or summary.compared is None or summary.differing is None:
        return "\n".join(lines)
    reduced = (
        f"predictions in {summary.arithmetic}; {summary.differing} of {summary.compared} copies "
        f"({100 * summary.differing / summary.compared:.3g} %) are flipped there or in float32, not in both"
    )
    return "\n".join([*lines, reduced])


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "noise-eval",
        NoiseSpec,
        run_noise,
        arguments=("models",),
        example="bangbench noise-eval table1/R0 table1/B1 --draws 50",
    )
