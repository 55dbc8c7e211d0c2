"""`python -m benchmarks`: run every benchmark and print one table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bangbench.core.provenance import collect_provenance
from benchmarks import attack_search, pass_scores, training_step


def main() -> None:
    """Print operation, times and ratios with the hardware and versions they hold for."""
    provenance = collect_provenance("cpu")
    versions = ", ".join(f"{name} {version}" for name, version in provenance.packages.items())
    table = Table(
        title=f"{provenance.processor}, {provenance.cores} cores, Python {provenance.python}, {versions}",
        caption="medians of alternating runs in one process; ratio: peer / bangbench, [smallest, largest]",
    )
    for header in ("operation", "bangbench s", "peer", "peer s", "ratio"):
        table.add_column(header)
    for module in (training_step, pass_scores, attack_search):
        for row in module.comparisons():
            ratio = f"{row.ratio:.2f} [{row.smallest:.2f}, {row.largest:.2f}]"
            table.add_row(row.operation, f"{row.seconds:.3f}", row.peer, f"{row.peer_seconds:.3f}", ratio)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
