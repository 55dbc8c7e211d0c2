"""The whole report: which files it writes, what it says of broken records, and the questions it answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.reporting import ReportSpec
from bangbench.reporting.run import check_claims, find, report


@pytest.fixture
def measured(records):
    for name in ("table1/R0", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked", "hc1"):
            records.attack(name, attack)
    return records


def test_it_writes_every_table_and_figure(measured):
    measured.noise("table1/R0", "table1/B1")

    result = report(ReportSpec(root=measured.root))

    folder = measured.root / "results" / "report"
    tables = tuple(f"table1{end}" for end in ("-defences", "", "-bench", "-masking", "-noise", "-claims"))
    figures = ("table1-R0-vs-B1-noise", "table1-R0-vs-B1-noise-lines")
    expected = [f"{name}.{suffix}" for name in tables for suffix in ("md", "tex", "csv")]
    expected += [f"figures/{name}.png" for name in figures]
    expected += ["report.json", "report.html"]
    assert [path.relative_to(folder).as_posix() for path in result.files] == expected
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(result.files)
    assert [table.name for table in result.tables] == list(tables)
    assert (result.problems, result.unfinished) == ((), ())


def test_an_audit_adds_its_tables_and_figure_and_links_its_single_images(measured):
    measured.audit("table1/R0")
    path = measured.audit("table1/B1", against="table1/R0")
    path.with_suffix(".parquet").write_bytes(b"PAR1")

    result = report(ReportSpec(root=measured.root, format=("csv", "json", "html")))

    names = {path.name for path in result.files}
    assert {"table1-verdicts.csv", "table1-budgets.csv", "table1-audit.png"} <= names
    assert [table.name for table in result.tables][:4:3] == ["table1-defences", "table1-verdicts"]
    assert 'href="../table1/B1/audit.parquet"' in (measured.root / "results/report/report.html").read_text()
    assert result.problems == ()


def test_an_audit_alone_is_a_report(records):
    records.audit("mine")

    result = report(ReportSpec(root=records.root, format=("csv",)))

    assert [path.name for path in result.files] == [
        "models-mnist-defences.csv", "models-mnist-verdicts.csv", "models-mnist-budgets.csv",
    ]  # fmt: skip


def test_another_process_keeps_the_figures(measured):
    measured.noise("table1/R0", "table1/B1")
    files = report(ReportSpec(root=measured.root, format=("html",))).files
    before = {path: path.stat().st_mtime_ns for path in files if path.parent.name == "figures"}

    subprocess.run([sys.executable, "-m", "bangbench", "report", "--format", "html"], cwd=measured.root, check=True)

    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_nothing_imports_matplotlib_where_nothing_is_drawn(measured):
    measured.noise("table1/R0", "table1/B1")
    report(ReportSpec(root=measured.root, format=("html",)))
    code = (
        "import sys; from pathlib import Path; from bangbench.reporting.run import report; "
        "from bangbench.reporting import ReportSpec; "
        "report(ReportSpec(root=Path('.'), format=('html',))); sys.exit('matplotlib' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=measured.root, check=False).returncode == 0


def test_formats_and_folder_can_be_chosen(measured):
    result = report(ReportSpec(root=measured.root, format=("csv",), out=measured.root / "elsewhere"))

    assert {path.suffix for path in result.files} == {".csv"}
    assert not (measured.root / "results" / "report").exists()
    assert (measured.root / "elsewhere" / "table1.csv").is_file()


def test_the_same_records_give_the_same_bytes(measured):
    measured.noise("table1/R0", "table1/B1", stages=(500,), sigmas=(10.0,))

    first = {path: path.read_bytes() for path in report(ReportSpec(root=measured.root)).files}

    assert {path: path.read_bytes() for path in report(ReportSpec(root=measured.root)).files} == first


def test_a_corrupt_record_is_a_problem_and_the_rest_is_written(measured):
    corrupt = measured.attack("table1/B1", "hc1-unmasked")
    corrupt.write_bytes(b"\xff\xfe{")
    measured.attack("table1/B2", "fgs", status="started")

    result = report(ReportSpec(root=measured.root, format=("csv",)))

    assert len(result.problems) == 1
    assert result.problems[0].startswith(f"{corrupt}: cannot be read as JSON")
    assert result.unfinished == ("table1/B2 fgs",)
    assert len(result.files) == 5


@pytest.mark.parametrize(
    ("name", "reason"),
    [("fgs.parquet", "not a whole Parquet file"), ("fgs-examples.npz", "not a whole file of examples")],
)
def test_a_damaged_file_of_single_images_is_named_and_the_summaries_stay(measured, name, reason):
    damaged = measured.root / "results" / "table1" / "B1" / name
    damaged.write_bytes(b"PAR1 no more than this")

    result = report(ReportSpec(root=measured.root, format=("csv",)))

    assert [reason in problem and str(damaged) in problem for problem in result.problems] == [True]
    assert "B1" in set(result.tables[0].frame["id"])


def test_a_record_of_another_schema_is_named_with_what_to_do(measured):
    old = measured.attack("table1/B1", "hc1-unmasked")
    old.write_text(old.read_text().replace('"schema": 1', '"schema": 0'))

    problems = report(ReportSpec(root=measured.root, format=("csv",))).problems

    assert problems == (f"{old}: record of schema 0, this bangbench reads schema 1; measure it again",)


def test_claims_need_a_row_of_the_paper(measured, records):
    assert [table.name for table in check_claims(measured.root, ())] == ["table1-claims"]
    records.attack("mine/R0", "fgs")
    with pytest.raises(BenchError, match="none of these results stands for a row of the paper"):
        check_claims(measured.root, ("mine/R0",))


def test_only_the_models_asked_for_are_reported(measured):
    result = report(ReportSpec(root=measured.root, models=("table1/B1",)))

    assert [table.name for table in result.tables] == [
        f"table1{end}" for end in ("-defences", "", "-bench", "-masking", "-claims")
    ]
    assert set(result.tables[0].frame["id"]) == {"B1"}
    with pytest.raises(UsageError, match=r"did you mean 'table1/B1'\?"):
        report(ReportSpec(root=measured.root, models=("table1/B11",)))


def test_two_data_sets_get_two_sets_of_files(measured):
    measured.attack("table1/R0", "fgs", data="digits")

    names = [table.name for table in report(ReportSpec(root=measured.root)).tables]

    assert names[:4] == ["table1-digits-defences", "table1-digits", "table1-digits-bench", "table1-mnist-defences"]


def test_tables_that_would_overwrite_each_other_are_refused(measured):
    measured.attack("table1-bench/R0", "fgs")

    with pytest.raises(BenchError, match="2 tables would be called table1-bench; rename one of the folders"):
        report(ReportSpec(root=measured.root))


def test_a_file_in_the_way_is_explained(measured):
    (measured.root / "taken").write_text("")

    with pytest.raises(BenchError, match="a file stands where a folder is needed"):
        report(ReportSpec(root=measured.root, out=measured.root / "taken"))


def test_reporting_needs_no_torch():
    code = "import bangbench.reporting.run, bangbench.cli.tables, sys; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_report_elsewhere_under_results_is_no_record(measured):
    report(ReportSpec(root=measured.root, format=("json",), out=measured.root / "results" / "copy"))

    assert report(ReportSpec(root=measured.root, format=("csv",))).problems == ()


def test_no_directory_of_this_machine_stands_in_what_is_written(measured):
    measured.attack("table1/B1", "hc1-unmasked").write_text("{")

    result = report(ReportSpec(root=measured.root, format=("json", "html")))

    assert str(measured.root) in result.problems[0]
    for name in ("report.json", "report.html"):
        text = (measured.root / "results" / "report" / name).read_text()
        assert "results/table1/B1/hc1-unmasked.json" in text
        assert str(measured.root) not in text


def test_curves_are_not_drawn_without_the_card_that_vouches_for_the_weights(measured):
    card = {"iteration,loss,rate,training_accuracy,test_accuracy,seconds": "500,0.3,0.01,90.0,97.0,1.0"}
    folder = measured.root / "models" / "table1" / "R0"
    folder.mkdir(parents=True)
    (folder / "log.csv").write_text("\n".join(f"{head}\n{line}" for head, line in card.items()) + "\n")

    assert {model.log for each in find(measured.root).experiments for model in each.models} == {None}
