"""audit.parquet: every rate of the summary can be counted again from its rows."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from bangbench.auditing.rows import audit_table, schema_of
from bangbench.auditing.verdict import Counted, summarise
from bangbench.store.tables import read_table, write_table

SCENES = runpy.run_path(str(Path(__file__).with_name("scenes.py")))
ball, classifier_of, evidence_of, flags, line, subject_of = (
    SCENES[name] for name in ("ball", "classifier_of", "evidence_of", "flags", "line", "subject_of")
)
PixelLogits = SCENES["PixelLogits"]
INF = np.inf
BUDGETS = (5, 10, 20)
PIXELS = [(60, 50, 0), (0, 9, 8), (7, 8, 9), (60, 50, 0), (200, 0, 190), (60, 70, 50)]
LABELS = [0, 2, 2, 1, 0, 1]  # wrong: the second and the fourth


@pytest.fixture
def scene():
    """Six images, four of them correct, and what was run on those."""
    subject = subject_of(classifier_of(PixelLogits()), PIXELS, LABELS)
    lines = {"fgs": line([6.0, INF, 5.0, 21.0]), "fgs-unmasked": line([INF] * 4)}
    battery = {
        ("pgd", 5): ball(flags(4, [0])),
        ("pgd", 10): ball(flags(4, [])),
        ("pgd", 20): ball(flags(4, [0, 2])),
        ("square", 20): ball(flags(4, [1])),
    }
    return subject, evidence_of(lines, battery, BUDGETS)


@pytest.fixture
def table(scene, tmp_path):
    write_table(tmp_path / "audit.parquet", audit_table(*scene), schema_of(scene[1]))
    return read_table(tmp_path / "audit.parquet")


def test_images_are_described_one_by_one(table):
    assert table["index"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert table["label"].to_pylist() == LABELS
    assert table["prediction"].to_pylist() == [0, 1, 2, 0, 0, 1]
    assert table["attacked"].to_pylist() == [True, False, True, False, True, True]
    assert table["true_logit"].to_pylist() == [60.0, 8.0, 9.0, 50.0, 200.0, 70.0]
    assert table["margin"].to_pylist() == [10.0, -1.0, 1.0, -10.0, 10.0, 10.0]


def test_distances_are_null_where_nothing_was_flipped(table):
    assert table["fgs_linf"].to_pylist() == [6.0, None, None, None, 5.0, 21.0]
    assert table["fgs-unmasked_linf"].null_count == 6


def test_verdicts_are_null_only_where_an_image_was_not_attacked(table):
    assert table["pgd_within_5"].to_pylist() == [True, None, False, None, False, False]
    assert table["pgd_within_10"].to_pylist() == [False, None, False, None, False, False]
    assert table["square_within_20"].to_pylist() == [False, None, True, None, False, False]


def test_there_is_a_column_for_everything_that_was_run_and_no_other(table):
    assert table.column_names[6:] == [
        *("fgs_linf", "fgs-unmasked_linf"),
        *("pgd_within_5", "pgd_within_10", "pgd_within_20", "square_within_20"),
    ]


def test_all_rates_of_the_summary_can_be_counted_again(scene, table):
    subject, evidence = scene
    summary = summarise(subject, evidence, [], "quick", Counted(0, 0.0))
    columns = {name: table[name].to_pylist() for name in table.column_names}
    attacked = sum(columns["attacked"])
    assert attacked == summary.correct
    assert 100.0 * attacked / table.num_rows == summary.accuracy
    fallen = set()
    for rates in summary.budgets:
        rows = {
            name.removesuffix("_linf"): {row for row, value in enumerate(values) if value and value <= rates.budget}
            for name, values in columns.items()
            if name.endswith("_linf")
        }
        for name, values in columns.items():
            attack, _, budget = name.partition("_within_")
            if budget == str(rates.budget):
                rows[attack] = {row for row, value in enumerate(values) if value}
        fallen |= set().union(*rows.values())
        assert {attack: len(found) for attack, found in rows.items()} == rates.flipped
        assert len(fallen) == rates.worst_case
        assert 100.0 * len(fallen) / attacked == rates.rate
        assert 100.0 * (attacked - len(fallen)) / table.num_rows == rates.robust_accuracy
    assert [rates.worst_case for rates in summary.budgets] == [2, 2, 3]


def test_nothing_but_the_images_stands_there_where_nothing_was_run(tmp_path):
    subject = subject_of(classifier_of(PixelLogits()), [(9, 0), (0, 9)], [1, 0])
    evidence = evidence_of({}, {})
    write_table(tmp_path / "audit.parquet", audit_table(subject, evidence), schema_of(evidence))
    table = read_table(tmp_path / "audit.parquet")
    assert table.column_names == ["index", "label", "prediction", "attacked", "true_logit", "margin"]
    assert table["attacked"].to_pylist() == [False, False]
