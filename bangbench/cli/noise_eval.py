"""`bangbench noise-eval`."""

from __future__ import annotations

import typer
from rich.table import Table

from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.noise.spec import NoiseSpec
from bangbench.store.records import NoiseRecord


def run_noise(specs: list[NoiseSpec], output: Output) -> None:
    """Follow the robustness of a regular and a BANG model to Gaussian noise through their training.

    Every model and stage sees the same noisy copies of the same images: those that both models classify correctly at
    every stage.
    """
    from bangbench.noise.run import evolve

    for spec in specs:
        record = evolve(spec, output.progress())
        if output.json:
            output.print_json(record.model_dump(mode="json", by_alias=True))
        elif not output.quiet:
            output.console().print(noise_summary(record))


def noise_summary(record: NoiseRecord) -> Table:
    """Return the flipped draws of both models at the last stage."""
    summary = record.summary
    if summary is None:
        return Table(title="unfinished")
    table = Table(
        title=f"{record.regular.name} and {record.bang.name} at iteration {summary.stages[-1]}: noisy copies not "
        f"classified correctly, {summary.images} images, {summary.draws} draws each",
        title_justify="left",
    )
    for header in ("sigma (grey levels)", "regular %", "BANG %", "difference"):
        table.add_column(header, justify="right")
    last = {role: stages[-1] for role, stages in summary.flipped_percent.items()}
    for sigma, regular, bang in zip(summary.sigmas, last["regular"], last["bang"], strict=True):
        table.add_row(f"{sigma:g}", f"{regular:.2f}", f"{bang:.2f}", f"{bang - regular:+.2f}")
    return table


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "noise-eval",
        NoiseSpec,
        run_noise,
        arguments=("regular", "bang"),
        example="bangbench noise-eval table1/R0 table1/B1 --draws 50",
    )
