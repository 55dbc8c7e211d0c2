"""Every LaTeX table can be set: no unescaped character, no missing column."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from bangbench.reporting import ReportSpec
from bangbench.reporting.run import report

pytestmark = [
    pytest.mark.latex,
    pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)"),
]


def set_document(folder, body):
    source = rf"""\documentclass{{article}}
\usepackage[utf8]{{inputenc}}
\usepackage{{booktabs,graphicx}}
\begin{{document}}
{body}
\end{{document}}
"""
    (folder / "all.tex").write_text(source, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_pdflatex_sets_every_table(records):
    for name in ("table1/R0", "table1/R1", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked", "hc1"):
            records.attack(name, attack, seed=int(name[-1]), weights_sha256=name[-2:] * 32)
    records.noise("table1/R0", "table1/B1")

    tables = [path for path in report(ReportSpec(root=records.root, format=("tex",))).files if path.suffix == ".tex"]
    body = "\n".join(rf"\input{{{path.name}}}" for path in tables)
    done = set_document(tables[0].parent, body)

    assert {path.stem for path in tables} >= {"table1", "table1-bench", "table1-masking", "table1-noise"}
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tables[0].parent / "all.pdf").stat().st_size > 10_000


def test_a_table_that_is_not_latex_would_be_noticed(tmp_path):
    assert set_document(tmp_path, "a_b & 100 %").returncode != 0
