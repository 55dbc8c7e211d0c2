"""`bangbench reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bangbench.cli.attack import attack_json
from bangbench.cli.audit import audit_json
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.cli.report import show_report
from bangbench.recipes.spec import ReproduceSpec
from bangbench.reporting import ReportSpec

if TYPE_CHECKING:
    from rich.table import Table

    from bangbench.recipes.run import Played, PlayedGrid
    from bangbench.store.cells import CellRecord
    from bangbench.store.records import AttackRecord

#: Points by which a rate rises without underflow before that is said at the end.
_FAR = 20.0


def run_reproduce(specs: list[ReproduceSpec], output: Output) -> None:
    """Play a recipe from end to end: train, attack, noise evolution, audit, report.

    demo takes minutes on the embedded digits; table1 is LeNet on MNIST, table2 CIFAR-10 quick on CIFAR-10; figure2 and
    figure4 are the grids of 169 models beside them, coarse to fine. What is already done is not done again; after an
    interruption the same command goes on. Finished work of other settings is kept: replace it with --overwrite, or
    give this run a --name of its own.

    --executor ray or slurm trains the models on a cluster whose machines all see --root; bangbench status tells how
    far it is.
    """
    from bangbench.recipes.run import reproduce

    for spec in specs:
        played = reproduce(spec, output.progress())
        if played.grid is not None:
            _show_grid(played.grid, output)
            continue
        if output.json:
            noise = played.noise.model_dump(mode="json", by_alias=True) if played.noise else None
            audits = {name: found["verdict"] for name, found in audit_json(played.audits)["models"].items()}
            attacks = attack_json([result.attacks for result in played.models])
            output.print_json({**attacks, "noise": noise, "verdicts": audits})
            continue
        if played.report is not None:
            show_report(played.report, ReportSpec(root=spec.root), output)
            if not output.quiet:
                output.say(_closing(played, spec))


def _closing(played: Played, spec: ReproduceSpec) -> str:
    """Return what the numbers come to in two sentences, and what to do next."""
    regular, *others = played.models
    sentences = []
    rates = {result.attacks[0].model.name: _rates(result.attacks) for result in played.models if result.attacks}
    masked = [name for name, found in rates.items() if _hides(found)]
    if masked:
        name, found = masked[-1], rates[masked[-1]]
        sentences.append(
            f"FGS flips {found['fgs']:.0f} % of what {name} gets right, and {found['fgs-unmasked']:.0f} % once its "
            "gradient cannot underflow: the low rate is float32 arithmetic, not robustness."
        )
    from bangbench.store.headline import headline

    sentences += [headline(found.model.name, found.summary) + "." for found in played.audits[-1:] if found.summary]
    last = (others or [regular])[-1].attacks
    name = last[0].model.name if last else "MODEL"
    root = "" if spec.root == Path() else f" --root {spec.root}"
    commands = [f"bangbench report {name}{root}", f"bangbench show {name} fgs-unmasked{root}"]
    commands.append("bangbench audit mynet.py:build --weights best.pt --data folder:images")
    return "\n".join(["", *sentences, "next:", *(f"  {each}" for each in commands)])


def _rates(records: list[AttackRecord]) -> dict[str, float]:
    """Return the rates of a model's attacks that have one, by name."""
    return {each.attack: each.summary.rate for each in records if each.summary and each.summary.rate is not None}


def _hides(rates: dict[str, float]) -> bool:
    """Return whether FGS flips far fewer images than without underflow."""
    return "fgs" in rates and rates.get("fgs-unmasked", 0.0) - rates["fgs"] > _FAR


def _show_grid(played: PlayedGrid, output: Output) -> None:
    """Print how much of a grid is done, and the summaries of its models."""
    if output.json:
        cells = {record.model.name: _facts(record) for record in played.cells if record.model is not None}
        output.print_json({"schema": 1, "grid": played.name, "models": len(played.grid.cells), "cells": cells})
    elif not output.quiet:
        output.console().print(_grid_table(played))
        output.say(f"{len(played.cells)} of {len(played.grid.cells)} models of {played.name} are done")


def _facts(record: CellRecord) -> dict[str, Any]:
    attacks = {name: found.model_dump(mode="json", by_alias=True) for name, found in record.attacks.items()}
    noise = record.noise.model_dump(mode="json") if record.noise is not None else None
    return {
        "place": record.place,
        "seed": record.seed,
        "accuracy": record.accuracy,
        "attacks": attacks,
        "noise": noise,
    }


def _grid_table(played: PlayedGrid) -> Table:
    from rich.table import Table

    attacks = list(dict.fromkeys(name for record in played.cells for name in record.attacks))
    table = Table("model", "accuracy %", *(f"{name} %" for name in attacks), "noise %")
    for record in played.cells:
        rates = (record.attacks[name].rate if name in record.attacks else None for name in attacks)
        noise = None if record.noise is None else record.noise.flipped_percent
        numbers = (record.accuracy, *rates, noise)
        name = record.model.name if record.model is not None else ""
        table.add_row(name, *("-" if number is None else f"{number:.2f}" for number in numbers))
    return table


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "reproduce",
        ReproduceSpec,
        run_reproduce,
        arguments=("recipe",),
        example="bangbench reproduce table1 --only R0 --only B1 --draws 50",
    )
