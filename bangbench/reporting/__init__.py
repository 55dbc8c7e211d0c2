"""The report: records on disk become tidy frames, these tables and figures, and those a page."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from bangbench.core.spec import Spec

Format = Literal["md", "tex", "csv", "html", "json", "svg", "pdf"]


class ReportSpec(Spec):
    """Which results to report, in which formats, and where to write them; or the paper's numbers to check."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"out"}

    models: tuple[str, ...] = Field((), description="Names under results/ (default: everything found there).")
    format: tuple[Format, ...] = Field(
        ("md", "tex", "csv", "html", "json"),
        min_length=1,
        description="md, tex, csv: the tables; html: the page with all figures; json: everything, for scripts; svg, "
        "pdf: the figures beside their PNG files.",
    )
    out: Path | None = Field(None, description="Directory to write to (default: ROOT/results/report).")
    compare: tuple[str, str] | None = Field(
        None, description="Say in one paragraph how two models compare, which stands on the page, too."
    )
    against: Literal["paper"] | None = Field(
        None, description="Write no report, check each number that the paper prints."
    )
    details: bool = Field(False, description="Print the tables below the one line of each model.")

    def folder(self) -> Path:
        """Return the directory that the report is written to."""
        return self.out if self.out is not None else self.root / "results" / "report"
