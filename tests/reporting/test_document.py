"""report.json: its schema, its numbers, and a golden file that notices a change of either."""

from __future__ import annotations

import csv
import io
import json
from importlib.resources import files
from pathlib import Path

import pytest

from bangbench.reporting.document import ReportDocument, Reported, document_schema, tables_of, to_json
from bangbench.reporting.frames import frames_of
from bangbench.reporting.render import to_csv
from bangbench.reporting.run import find

GOLDEN = Path(__file__).parent / "golden" / "report.json"


@pytest.fixture
def document(records) -> str:
    for name in ("table1/R0", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked"):
            records.attack(name, attack)
    records.audit("table1/B1", against="table1/R0")
    records.attack("table1/B1", "hc1", status="started")
    records.noise("table1/R0", "table1/B1", stages=(500,), sigmas=(50.0, 100.0))
    found = find(records.root)
    return to_json(list(map(reported, found.experiments)), found.problems, found.unfinished)


def reported(experiment) -> Reported:
    frames = frames_of([experiment])
    return Reported(experiment, frames, tuple(tables_of(experiment, frames)))


def test_it_is_what_the_golden_file_says(document):
    # The version is left out: a release must not have to touch the file. To renew it: write `document` to GOLDEN.
    found, expected = json.loads(document), json.loads(GOLDEN.read_text(encoding="utf-8"))
    found.pop("bangbench")
    expected.pop("bangbench")
    assert rounded(found) == rounded(expected)


def rounded(value):
    """Round every number: the last digits of an interval may change with the version of a library."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 9) if isinstance(value, float) else value


def test_the_committed_schema_is_the_one_in_use():
    committed = files("bangbench.reporting").joinpath("report.schema.json").read_text(encoding="utf-8")
    assert committed == document_schema()


def test_it_can_be_read_back(document):
    read = ReportDocument.model_validate_json(document)
    assert [group.name for group in read.groups] == ["table1"]
    assert read.unfinished == ("table1/B1 hc1",)


def test_its_numbers_are_those_of_the_csv(records, document):
    whole = reported(find(records.root).experiments[0])
    tables = {table["name"]: table for table in json.loads(document)["groups"][0]["tables"]}
    assert set(tables) == {table.name for table in whole.tables}
    for table in whole.tables:
        lines = list(csv.DictReader(io.StringIO(to_csv(table))))
        rows = [
            {field: "" if value is None else str(value) for field, value in row.items()}
            for row in tables[table.name]["rows"]
        ]
        assert rows == lines


def test_a_model_has_its_verdicts_rates_and_checks_or_null(document):
    regular, bang = ReportDocument.model_validate_json(document).groups[0].models
    assert regular.audit is None
    assert (bang.audit.against, bang.audit.data.images) == ("table1/R0", 1000)
    assert bang.audit.summary.claim("fgs").verdict == "masked"
    assert [rates.budget for rates in bang.audit.summary.budgets] == [26, 51, 76]
    assert {check.code for check in bang.audit.summary.checks} == {"input-scale", "fgs-masked", "loss-underflow"}


def test_an_infinite_number_is_a_word_since_json_has_none(document):
    bench = next(t for t in json.loads(document)["groups"][0]["tables"] if t["name"] == "table1-bench")
    row = next(row for row in bench["rows"] if (row["id"], row["attack"]) == ("B1", "fgs"))
    assert row["linf_median_censored_grey_levels"] == "inf"
