"""`bangbench pass`."""

from __future__ import annotations

import typer

from bangbench.cli.options import command
from bangbench.cli.output import Output
from bangbench.metrics.spec import PassSpec


def run_pass(specs: list[PassSpec], output: Output) -> None:
    """Score adversarial images against their originals: PASS by its definition, as the paper's table, and SSIM.

    Two image files, or two .npy or .npz stacks of uint8 images (N, H, W), (N, C, H, W) or (N, H, W, C).
    """
    from bangbench.metrics.compare import compare_files

    for spec in specs:
        rows = compare_files(spec)
        if output.json:
            output.print_json({"schema": 1, "pairs": [row._asdict() for row in rows]})
        for row in rows:
            output.say(
                f"{row.pair}: PASS {row.pass_definition:.4f} ({row.status}), as in the paper's table "
                f"{row.pass_paper:.4f} ({row.status_paper}), unaligned SSIM {row.ssim:.4f}, L_inf {row.linf:.0f}"
            )


def add(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "pass",
        PassSpec,
        run_pass,
        arguments=("original", "adversarial"),
        without=("root", "data_dir", "overwrite", "wait"),
        example="bangbench pass original.png adversarial.png",
    )
