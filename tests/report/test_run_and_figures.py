"""The whole report: which files it writes, what it says of broken records, and the figure of the noise."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.report.run import report
from bangbench.report.spec import ReportSpec


@pytest.fixture
def measured(records):
    for name in ("table1/R0", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked", "hc1"):
            records.attack(name, attack)
    return records


def test_it_writes_every_table_in_every_format_and_the_figure(measured):
    measured.noise("table1/R0", "table1/B1")

    result = report(ReportSpec(root=measured.root))

    folder = measured.root / "results" / "report"
    tables = ("table1", "table1-bench", "table1-masking", "table1-noise")
    expected = [f"{name}.{suffix}" for name in tables for suffix in ("md", "tex", "csv")]
    expected += [f"figures/table1-R0-vs-B1-noise.{suffix}" for suffix in ("png", "pdf")]
    assert [path.relative_to(folder).as_posix() for path in result.files] == expected
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(result.files)
    assert [table.name for table in result.tables] == list(tables)
    assert (result.problems, result.unfinished) == ((), ())


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

    result = report(ReportSpec(root=measured.root))

    assert len(result.problems) == 1
    assert result.problems[0].startswith(f"{corrupt}: cannot be read as JSON")
    assert result.unfinished == ("table1/B2 fgs",)
    assert len(result.files) == 9


def test_only_the_models_asked_for_are_reported(measured):
    result = report(ReportSpec(root=measured.root, models=("table1/B1",)))

    assert [table.name for table in result.tables] == ["table1", "table1-bench", "table1-masking"]
    assert {row.cells[1][0] for row in result.tables[0].rows} == {"B1"}
    with pytest.raises(UsageError, match=r"did you mean 'table1/B1'\?"):
        report(ReportSpec(root=measured.root, models=("table1/B11",)))


def test_two_data_sets_get_two_sets_of_files(measured):
    measured.attack("table1/R0", "fgs", data="digits")

    names = [table.name for table in report(ReportSpec(root=measured.root)).tables]

    assert names[:3] == ["table1-digits", "table1-digits-bench", "table1-mnist"]


def test_tables_that_would_overwrite_each_other_are_refused(measured):
    measured.attack("table1-bench/R0", "fgs")

    with pytest.raises(BenchError, match="2 tables would be called table1-bench; rename one of the folders"):
        report(ReportSpec(root=measured.root))


def test_a_file_in_the_way_is_explained(measured):
    (measured.root / "taken").write_text("")

    with pytest.raises(BenchError, match="a file stands where a folder is needed"):
        report(ReportSpec(root=measured.root, out=measured.root / "taken"))


def test_reporting_needs_no_torch():
    code = "import bangbench.report.run, bangbench.cli.tables, sys; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
