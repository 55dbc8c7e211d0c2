"""Tables as Markdown, LaTeX and CSV, character by character."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

from bangbench.paper.tables import paper_table
from bangbench.reporting.attack_tables import bench_table, masking_table
from bangbench.reporting.noise import noise_table
from bangbench.reporting.render import latex_escape, to_csv, to_html, to_latex, to_markdown
from bangbench.reporting.table import make_table, words


@pytest.fixture
def tables(records):
    records.attack("table1/R0", "fgs")
    records.attack("table1/R0", "hc1")
    for attack in ("fgs", "fgs-unmasked"):
        records.attack("table1/B1", attack)
    records.noise("table1/R0", "table1/B1")
    return {build.__name__: records.table(build) for build in (paper_table, bench_table, masking_table, noise_table)}


def small(cell, title="t", note="n"):
    return make_table("t", title, [{"name": cell}], [words("Name")], (note,))


def test_markdown_of_the_paper_table(tables):
    lines = to_markdown(tables["paper_table"]).splitlines()

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


def test_latex_of_the_paper_table(tables):
    source = to_latex(tables["paper_table"])

    assert "    \\begin{tabular}{lrrrrrrrrr}\n    \\toprule\n    ID & $\\beta$ & $\\epsilon$ & Accuracy (\\%)" in source
    assert (
        "    R0 & -- & -- & 99.16 & 90.33 & 0.4071 $\\pm$ 0.1085 & 40.56 $\\pm$ 15.74 & 99.77 "
        "& 0.7526 $\\pm$ 0.1131 & 122.20 $\\pm$ 49.40 \\\\\n"
        "    published & -- & -- & 99.16 & 90.33 &"
    ) in source
    assert "\\label{tab:table1}" in source
    assert "is pass\\_paper, which was matched empirically" in source


def test_latex_of_every_table_is_balanced_and_plain_ascii(tables):
    for table in tables.values():
        source = to_latex(table)
        body = source.split("\\toprule")[1].split("\\bottomrule")[0]
        lines = [line for line in body.splitlines() if line.strip() and "\\midrule" not in line]
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", source).group(1))

        assert source.isascii()
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {columns - 1}
        assert all(line.endswith(r" \\") for line in lines)
        assert len(lines) == len(table.frame) + 1
        assert re.findall(r"\\begin\{(\w+)\}", source) == ["table", "tabular", "minipage"]
        assert re.findall(r"\\end\{(\w+)\}", source) == ["tabular", "minipage", "table"]
        assert len(re.findall(r"(?<!\\)\{", source)) == len(re.findall(r"(?<!\\)\}", source))


def test_latex_escapes_every_special_character():
    assert latex_escape(r"a_b & 5% $x #1 {y} ~ ^ \z") == (
        r"a\_b \& 5\% \$x \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}z"
    )
    assert latex_escape("median L∞ ∞ [1, 2]") == r"median $L_\infty$ $\infty$ {[}1, 2{]}"
    assert r"\caption{100\% \& more}" in to_latex(small("x", title="100% & more"))


def test_csv_of_the_paper_table(tables):
    lines = to_csv(tables["paper_table"]).splitlines()

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


def test_csv_opens_in_pandas_with_numbers_as_numbers(tables):
    for table in tables.values():
        frame = pd.read_csv(io.StringIO(to_csv(table)))
        words = {"id", "source", "model", "data", "attack", "evolution", "reference"}
        words |= {name for name in frame if name.endswith("audit_verdict") and frame[name].notna().any()}
        wrong = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name]) == (name in words)]

        assert wrong == []
        assert len(frame) == len(table.frame)
        assert frame.columns.is_unique

    bench = pd.read_csv(io.StringIO(to_csv(tables["bench_table"])))
    assert all(pd.api.types.is_integer_dtype(bench[name]) for name in ("images", "correct", "flipped"))
    assert bench.set_index(["id", "attack"]).linf_median_censored_grey_levels["B1", "fgs"] == float("inf")


def test_csv_quotes_a_comma():
    assert to_csv(small("a,b")) == 'name\n"a,b"\n'


def test_html_keeps_numbers_for_sorting_and_rows_that_belong_together(tables):
    page = to_html(tables["paper_table"])
    bodies = page.split("<tbody>")[1:]

    assert len(bodies) == 2
    kinds = [re.findall(r'<tr(?: class="(\w+)")?>', body) for body in bodies]
    assert kinds == [["", "published", "difference"]] * 2
    assert 'data-value="90.328762">90.33</td>' in bodies[0]
    assert 'data-value="-0.0009">-0.0009</td>' in bodies[0]
    # what a model was told to be has no difference
    assert re.findall(r'<th scope="row">difference</th><td class="right"></td><td class="right"></td>', bodies[1])


def test_html_escapes_what_a_name_might_hold():
    assert "<script>" not in to_html(small("<script>alert(1)</script>"))
    assert "&lt;script&gt;" in to_html(small("<script>alert(1)</script>"))


def test_a_whole_number_beside_a_missing_one_stays_whole_and_tables_keep_their_types():
    table = make_table("t", "t", [{"a": 1000, "b": None}, {"a": None, "b": 0.5}], [words("A", "a")], ())

    assert to_csv(table) == "a,b\n1000,\n,0.5\n"
    assert make_table("t", "t", [], [words("A", "a")], ()) is None


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum"])
def test_no_spreadsheet_computes_a_name(name):
    assert to_csv(small(name)) == f"name\n'{name}\n"
