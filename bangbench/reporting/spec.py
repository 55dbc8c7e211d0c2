"""What `bangbench report` was asked to do."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from bangbench.core.spec import Spec

Format = Literal["md", "tex", "csv", "html", "json"]


class ReportSpec(Spec):
    """Which results to report, in which formats, and where to write them; or one question to answer from them."""

    circumstances: ClassVar[frozenset[str]] = Spec.circumstances | {"out"}

    models: tuple[str, ...] = Field((), description="Names under results/ (default: everything found there).")
    format: tuple[Format, ...] = Field(
        ("md", "tex", "csv", "html", "json"),
        min_length=1,
        description="md, tex, csv: the tables; html: the page with all figures; json: everything, for scripts.",
    )
    out: Path | None = Field(None, description="Directory to write to (default: ROOT/results/report).")
    compare: tuple[str, str] | None = Field(
        None, description="Write no report, say in one paragraph how two models compare."
    )
    against: Literal["paper"] | None = Field(
        None, description="Write no report, check each number that the paper prints."
    )

    def folder(self) -> Path:
        """Return the directory that the report is written to."""
        return self.out if self.out is not None else self.root / "results" / "report"
