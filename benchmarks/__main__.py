"""`python -m benchmarks [--only NAME ...] [--out DIR]`: run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bangbench.core.provenance import collect_provenance
from bangbench.store.files import check_writable
from benchmarks.compare import Comparison, Row
from benchmarks.report import remarks, terminal_table, write_report

#: One script each; each has a function `comparisons`.
NAMES = (
    "training_step",
    "per_sample_gradients",
    "training_loop",
    "pass_scores",
    "attack_search",
    "noise_evolution",
    "image_gradients",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print operations, times, ratios and limits with the hardware and versions they hold for."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    if options.out is not None:
        check_writable(options.out)
    console = Console(width=160)
    rows: list[Row] = []
    for name in options.only or NAMES:
        console.print(f"{name} ...", style="dim")
        rows += importlib.import_module(f"benchmarks.{name}").comparisons()
    command = shlex.join(["python", "-m", "benchmarks", *arguments])
    provenance = collect_provenance("cpu").model_copy(update={"command": command})
    console.print(terminal_table([row for row in rows if isinstance(row, Comparison)], provenance))
    for remark in remarks(rows):
        console.print(f"- {remark}", highlight=False)
    if options.out is not None:
        write_report(options.out, rows, provenance)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="bangbench beside its peers")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=f"only these: {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write benchmarks.json and benchmarks.md there")
    return parser


if __name__ == "__main__":
    main()
