"""What `bangbench report` was asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from bangbench.core.spec import Spec

Format = Literal["md", "tex", "csv"]


class ReportSpec(Spec):
    """Which results to tabulate, in which formats, and where to write them."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"out"}

    models: tuple[str, ...] = Field((), description="Names under results/ (default: everything found there).")
    format: tuple[Format, ...] = Field(("md", "tex", "csv"), min_length=1, description="Formats of the tables.")
    out: Path | None = Field(None, description="Directory to write to (default: ROOT/results/report).")

    def folder(self) -> Path:
        """Return the directory that the report is written to."""
        return self.out if self.out is not None else self.root / "results" / "report"
