"""Tables as Markdown, LaTeX and CSV, character by character."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

from bangbench.reporting.bench_rows import bench_table
from bangbench.reporting.collect import collect
from bangbench.reporting.groups import group_records
from bangbench.reporting.masking_rows import masking_table
from bangbench.reporting.noise_rows import noise_table
from bangbench.reporting.render import latex_escape, to_csv, to_latex, to_markdown
from bangbench.reporting.rows import paper_table
from bangbench.reporting.table import Column, Row, Table, text


@pytest.fixture
def group(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/R0", "hc1")
    for attack in ("fgs", "fgs-unmasked"):
        records.attack("table1/B1", attack)
    records.noise("table1/R0", "table1/B1")
    (found,) = group_records(collect(records.root, ())).groups
    return found


def small(cell, title="t", note="n"):
    column = Column("Name", "Name", ("name",), text, "left")
    return Table("t", title, (column,), (Row("measured", ((cell,),)),), (note,))


def test_markdown_of_the_paper_table(group):
    lines = to_markdown(paper_table(group)).splitlines()

    assert lines[:8] == [
        "### table1: lenet on mnist, 10,000 test images",
        "",
        "| ID | β | ε | Accuracy (%) | FGS rate (%) | FGS PASS | FGS L∞ | HC1 rate (%) | HC1 PASS | HC1 L∞ |",
        "| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| R0 | – | – | 99.16 | 90.33 | 0.4071 ± 0.1085 | 40.56 ± 15.74 | 99.77 | 0.7526 ± 0.1131 "  # noqa: RUF001
        "| 122.20 ± 49.40 |",
        "| published | – | – | 99.16 | 90.33 | 0.4072 ± 0.1081 | 40.51 ± 15.72 | 99.53 "  # noqa: RUF001
        "| 0.7535 ± 0.1143 | 122.60 ± 49.46 |",
        "| B1 | 1.00 | 0.815 | 99.22 | 1.68 | 0.7652 ± 0.1349 | 5.47 ± 2.77 | – | – | – |",  # noqa: RUF001
        "| published | 1.00 | 0.815 | 99.22 | 1.68 | 0.7638 ± 0.1367 | 5.52 ± 2.86 | 94.19 | 0.4880 ± 0.2110 "
        "| 201.84 ± 62.51 |",
    ]
    assert lines[8] == ""
    assert all(line.startswith("- ") for line in lines[9:])


def test_markdown_escapes_what_github_would_read_as_markup():
    assert "| a\\|b\\*c lenet_bang \\_x\\_ |" in to_markdown(small("a|b*c lenet_bang _x_"))


def test_latex_of_the_paper_table(group):
    source = to_latex(paper_table(group))

    assert "    \\begin{tabular}{lrrrrrrrrr}\n    \\toprule\n    ID & $\\beta$ & $\\epsilon$ & Accuracy (\\%)" in source
    assert (
        "    R0 & -- & -- & 99.16 & 90.33 & 0.4071 $\\pm$ 0.1085 & 40.56 $\\pm$ 15.74 & 99.77 "
        "& 0.7526 $\\pm$ 0.1131 & 122.20 $\\pm$ 49.40 \\\\\n"
        "    published & -- & -- & 99.16 & 90.33 &"
    ) in source
    assert "\\label{tab:table1}" in source
    assert "is pass\\_paper, which was matched empirically" in source


def test_latex_of_every_table_is_balanced_and_plain_ascii(group):
    for table in (paper_table(group), bench_table(group), masking_table(group), noise_table(group)):
        source = to_latex(table)
        body = source.split("\\toprule")[1].split("\\bottomrule")[0]
        lines = [line for line in body.splitlines() if line.strip() and "\\midrule" not in line]
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", source).group(1))

        assert source.isascii()
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
        assert all(line.endswith(r" \\") for line in lines)
        assert len(lines) == len(table.rows) + 1
        assert re.findall(r"\\begin\{(\w+)\}", source) == ["table", "tabular", "minipage"]
        assert re.findall(r"\\end\{(\w+)\}", source) == ["tabular", "minipage", "table"]
        assert len(re.findall(r"(?<!\\)\{", source)) == len(re.findall(r"(?<!\\)\}", source))


def test_latex_escapes_every_special_character():
    assert latex_escape(r"a_b & 5% $x #1 {y} ~ ^ \z") == (
        r"a\_b \& 5\% \$x \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    )
    assert latex_escape("median L∞ ∞ [1, 2]") == r"median $L_\infty$ $\infty$ {[}1, 2{]}"
    assert r"\caption{100\% \& more}" in to_latex(small("x", title="100% & more"))


def test_csv_of_the_paper_table(group):
    lines = to_csv(paper_table(group)).splitlines()

    assert lines[0] == (
        "id,source,model,data,beta,epsilon,accuracy_percent,predictions_audit_verdict,fgs_rate_percent,"
        "fgs_audit_verdict,fgs_pass_paper_mean,fgs_pass_paper_std,"
        "fgs_linf_mean_grey_levels,fgs_linf_std_grey_levels,hc1_rate_percent,hc1_audit_verdict,hc1_pass_paper_mean,"
        "hc1_pass_paper_std,hc1_linf_mean_grey_levels,hc1_linf_std_grey_levels"
    )
    assert lines[3:] == [
        "B1,measured,table1/B1,mnist,1.0,0.815,99.22,not audited,1.683128,not audited,0.7652,0.1349,5.4731,2.7719,"
        ",,,,,",
        "B1,published,table1/B1,mnist,1.0,0.815,99.22,,1.68,,0.7638,0.1367,5.52,2.86,94.19,,0.488,0.211,201.84,62.51",
    ]


def test_csv_opens_in_pandas_with_numbers_as_numbers(group):
    for table in (paper_table(group), bench_table(group), masking_table(group), noise_table(group)):
        frame = pd.read_csv(io.StringIO(to_csv(table)))
        words = {"id", "source", "model", "data", "attack", "regular", "bang"}
        words |= {name for name in frame if name.endswith("audit_verdict") and frame[name].notna().any()}
        wrong = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name]) == (name in words)]

        assert wrong == []
        assert len(frame) == len(table.rows)
        assert frame.columns.is_unique

    bench = pd.read_csv(io.StringIO(to_csv(bench_table(group))))
    assert all(pd.api.types.is_integer_dtype(bench[name]) for name in ("images", "correct", "flipped"))
    assert bench.set_index(["id", "attack"]).linf_median_censored_grey_levels["B1", "fgs"] == float("inf")


def test_csv_quotes_a_comma():
    assert to_csv(small("a,b")) == 'name\n"a,b"\n'
