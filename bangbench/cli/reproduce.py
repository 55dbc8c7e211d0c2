"""`bangbench reproduce`."""

from __future__ import annotations

import typer

from bangbench.cli.attack import attack_json
from bangbench.cli.audit import audit_json
from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.cli.report import show_report
from bangbench.recipes.spec import ReproduceSpec
from bangbench.reporting.spec import ReportSpec


def run_reproduce(specs: list[ReproduceSpec], output: Output) -> None:
    """Play a recipe from end to end: train, attack, noise evolution, audit, report.

    demo takes minutes on the embedded digits; table1 is LeNet on MNIST, table2 CIFAR-10 quick on CIFAR-10. What is
    already done is not done again; after an interruption the same command goes on. Finished work of other settings is
    kept: replace it with --overwrite, or give this run a --name of its own.
    """
    from bangbench.recipes.run import reproduce

    for spec in specs:
        played = reproduce(spec, output.progress())
        if output.json:
            noise = played.noise.model_dump(mode="json", by_alias=True) if played.noise else None
            audits = {name: found["verdict"] for name, found in audit_json(played.audits)["models"].items()}
            attacks = attack_json([result.attacks for result in played.models])
            output.print_json({**attacks, "noise": noise, "verdicts": audits})
            continue
        show_report(played.report, ReportSpec(root=spec.root), output)


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
