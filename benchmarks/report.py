"""The table of all comparisons: for the terminal, as Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.table import Table

from bangbench.core.provenance import Provenance
from bangbench.store.files import write_json, write_text
from benchmarks.compare import Comparison, LeftOut, Row

HEADERS = ("operation", "bangbench s", "peer", "peer s", "ratio (smallest-largest)", "limit", "met")
CAPTION = (
    "Medians of alternating runs in one process. The ratio is peer / bangbench (how many times faster), or, where the "
    "limit is an upper one, bangbench / peer."
)
_PEERS = ("numba", "opacus", "adversarial-robustness-toolbox", "foolbox", "joblib")


def versions(provenance: Provenance) -> dict[str, str]:
    """Return the versions of the packages that the numbers depend on, the peers' among them."""
    found = dict(provenance.packages)
    for name in _PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def heading(provenance: Provenance) -> str:
    """Return hardware, cores and versions in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in versions(provenance).items())
    return f"{provenance.processor}, {provenance.cores} cores, Python {provenance.python}, {packages}"


def cells(row: Comparison) -> tuple[str, ...]:
    """Return one row as text, in the order of `HEADERS`."""
    limit = "" if row.limit is None else f"{row.limit.side} {row.limit.value:g}"
    met = {None: "", True: "yes", False: "no"}[row.met]
    spread = f" ({row.smallest:.2f}-{row.largest:.2f})" if row.runs > 1 else ""
    return (
        row.operation,
        _seconds(row.seconds),
        row.peer,
        _seconds(row.peer_seconds),
        f"{row.ratio:.2f}{spread}",
        limit,
        met,
    )


def terminal_table(rows: Iterable[Comparison], provenance: Provenance) -> Table:
    """Return the table that a terminal shows."""
    table = Table(title=heading(provenance), caption=CAPTION, show_lines=True)
    for header in HEADERS:
        table.add_column(header)
    for row in rows:
        table.add_row(*cells(row))
    return table


def markdown(rows: list[Row], provenance: Provenance, date: str) -> str:
    """Return the table with what it holds for, its notes, and what was left out."""
    done = [row for row in rows if isinstance(row, Comparison)]
    lines = [f"{heading(provenance)}; {date}; `{provenance.command}`.", ""]
    lines += [_line(HEADERS), _line(["---"] * len(HEADERS)), *(_line(cells(row)) for row in done)]
    lines += ["", CAPTION, *(f"- {text}" for text in remarks(rows))]
    return "\n".join(lines) + "\n"


def remarks(rows: Iterable[Row]) -> list[str]:
    """Return the notes to rows, and why rows were left out."""
    texts = []
    for row in rows:
        if isinstance(row, LeftOut):
            texts.append(f"{row.operation}: left out, {row.reason}")
        elif row.note:
            texts.append(f"{row.operation}, {row.peer}: {row.note}")
    return list(dict.fromkeys(texts))


def as_json(rows: list[Row], provenance: Provenance, date: str) -> dict[str, Any]:
    """Return everything, numbers as numbers."""
    return {
        "schema": 1,
        "date": date,
        "provenance": provenance.model_dump(mode="json") | {"packages": versions(provenance)},
        "comparisons": [_record(row) for row in rows if isinstance(row, Comparison)],
        "left_out": [row._asdict() for row in rows if isinstance(row, LeftOut)],
    }


def write_report(folder: Path, rows: list[Row], provenance: Provenance) -> None:
    """Write benchmarks.json and benchmarks.md into `folder`."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "benchmarks.json", as_json(rows, provenance, date))
    write_text(folder / "benchmarks.md", markdown(rows, provenance, date))


def _record(row: Comparison) -> dict[str, Any]:
    limit = None if row.limit is None else row.limit._asdict()
    return row._asdict() | {"limit": limit, "met": row.met}


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
