"""The CSV files open in pandas with the types a reader expects."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from bangbench.reporting import ReportSpec
from bangbench.reporting.run import report


@pytest.fixture
def folder(records):
    for name in ("table1/R0", "table1/B1"):
        for attack in ("fgs", "fgs-unmasked", "hc1"):
            records.attack(name, attack)
    records.noise("table1/R0", "table1/B1")
    report(ReportSpec(root=records.root, format=("csv",)))
    return records.root / "results" / "report"


def test_numbers_are_numbers_and_names_are_names(folder):
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path)
        assert len(frame) > 0
        for column in frame.columns:
            if column.endswith(("_percent", "_grey_levels", "_points", "_mean", "_std")):
                assert pd.api.types.is_float_dtype(frame[column]) or frame[column].isna().all(), (path.name, column)
        for column in {"id", "source", "model", "data", "attack"} & set(frame.columns):
            assert pd.api.types.is_string_dtype(frame[column]), (path.name, column)


def test_an_infinite_median_is_infinite_and_a_missing_number_is_missing(folder):
    frame = pd.read_csv(folder / "table1-bench.csv").set_index(["model", "attack"])
    assert frame.loc[("table1/B1", "fgs"), "linf_median_censored_grey_levels"] == math.inf
    published = pd.read_csv(folder / "table1.csv").set_index(["id", "source"])
    assert math.isnan(published.loc[("R0", "published"), "beta"])
    assert published.loc[("B1", "published"), "fgs_rate_percent"] == 1.68


def test_counts_are_whole_numbers(folder):
    frame = pd.read_csv(folder / "table1-bench.csv")
    for column in ("images", "correct", "flipped"):
        assert pd.api.types.is_integer_dtype(frame[column])
