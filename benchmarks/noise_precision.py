"""`python -m benchmarks.noise_precision MODEL MODEL...`: `noise-eval --precision` against all draws, cell by cell.

Runs both in one root, prints how much sooner the one with a precision is done, and whether every percentage of the
full run lies inside the interval that the other one states. The full run takes 20 million forward passes for one
stage; it can be interrupted and goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bangbench.core.provenance import collect_provenance
from bangbench.noise.run import evolve
from bangbench.noise.spec import NoiseSpec
from bangbench.store.files import write_json
from bangbench.store.records import NoiseSummary


def main() -> None:
    """Measure the noise evolution twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.noise_precision")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--root", type=Path, required=True, help="directory for the two results")
    parser.add_argument("--data-dir", type=Path, default=None)
    parser.add_argument("--precision", type=float, default=1.0, help="percentage points")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=None, help="write the comparison to this JSON file")
    arguments = parser.parse_args()
    common: dict[str, Any] = {"models": arguments.models, "data_dir": arguments.data_dir}
    common |= {"draws": arguments.draws, "device": "cpu"}
    stopped = evolve(NoiseSpec(**common, root=arguments.root / "stopped", precision=arguments.precision))
    full = evolve(NoiseSpec(**common, root=arguments.root / "full"))
    if stopped.summary is None or full.summary is None:
        raise SystemExit("expected finished results, found an unfinished one; run the command again")
    result = compare([info.name for info in full.models], stopped.summary, full.summary)
    console = Console(width=120, highlight=False)
    for cell in result["cells"]:
        console.print(
            f"{cell['model']:8} stage {cell['stage']} sigma {cell['sigma']:5.0f}: {cell['flipped']:6.2f} % "
            f"[{cell['low']:.2f}, {cell['high']:.2f}] after {cell['draws']} draws; all draws {cell['full']:6.2f} %"
        )
    console.print(
        f"{result['inside']} of {len(result['cells'])} cells inside; {result['seconds']:.0f} s against "
        f"{result['full_seconds']:.0f} s: {result['speedup']:.1f} times sooner"
    )
    if arguments.out is not None:
        provenance = collect_provenance("cpu").model_dump(mode="json")
        write_json(arguments.out, {"schema": 1, "provenance": provenance, **result})


def compare(names: Sequence[str], stopped: NoiseSummary, full: NoiseSummary) -> dict[str, Any]:
    """Return every cell of a run with a precision beside the full run's, and how much sooner it was done."""
    if stopped.flipped_interval is None or stopped.draws_used is None:
        raise ValueError("expected a run with a precision first, found one with all draws")
    cells = [
        {
            "model": name,
            "stage": stage,
            "sigma": sigma,
            "flipped": stopped.flipped_percent[model][row][column],
            "low": stopped.flipped_interval[model][row][column][0],
            "high": stopped.flipped_interval[model][row][column][1],
            "draws": stopped.draws_used[model][row][column],
            "full": full.flipped_percent[model][row][column],
        }
        for model, name in enumerate(names)
        for row, stage in enumerate(stopped.stages)
        for column, sigma in enumerate(stopped.sigmas)
    ]
    return {
        "precision": stopped.precision,
        "images": full.images,
        "draws": full.draws,
        "inside": sum(cell["low"] <= cell["full"] <= cell["high"] for cell in cells),
        "seconds": stopped.seconds,
        "full_seconds": full.seconds,
        "speedup": full.seconds / stopped.seconds,
        "forwards": stopped.forwards,
        "full_forwards": full.forwards,
        "cells": cells,
    }


if __name__ == "__main__":
    main()
