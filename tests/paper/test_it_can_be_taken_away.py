"""Nothing but names points at the paper's package: without it, the report is whole but for the paper."""

from __future__ import annotations

from bangbench.reporting import ReportSpec, document
from bangbench.reporting.run import report


def test_a_report_without_the_papers_builders_has_everything_else(records, monkeypatch):
    records.attack("table1/R0", "fgs")
    records.noise("table1/R0", "table1/B1", stages=(500, 1000), sigmas=(10.0,))
    for name in ("TABLES", "FIGURES"):
        kept = tuple(target for target in getattr(document, name) if not target.startswith("bangbench.paper."))
        assert len(kept) < len(getattr(document, name))
        monkeypatch.setattr(document, name, kept)

    names = {path.name for path in report(ReportSpec(root=records.root)).files}

    assert {"table1-defences.csv", "table1-bench.csv", "table1-R0-vs-B1-noise-lines.png", "report.html"} <= names
    assert not {"table1.csv", "table1-claims.csv", "table1-R0-vs-B1-noise.png"} & names
