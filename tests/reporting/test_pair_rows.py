"""The table of pairs of models on common images."""

from __future__ import annotations

import numpy as np
import pytest

from bangbench.reporting.collect import collect
from bangbench.reporting.groups import group_records
from bangbench.reporting.pair_rows import pair_table
from bangbench.reporting.per_image import AttackRows
from bangbench.reporting.render import RENDERERS
from bangbench.reporting.table import cell_text

IMAGES = 60


def rows_of(flipped, linf=10.0):
    """Return rows in which all images are correct and the first `flipped` are flipped."""
    flags = np.arange(IMAGES) < flipped
    linf, score, unknown = np.where(flags, linf, np.nan), np.where(flags, 0.5, np.nan), np.full(IMAGES, np.nan)
    return AttackRows(
        np.arange(IMAGES), np.ones(IMAGES, bool), flags, linf,
        pass_definition=score, margin=unknown, true_logit=unknown,
    )  # fmt: skip


def group_of(records, attacks):
    """Return the group of {(model, attack): rows}."""
    for name, attack in attacks:
        records.attack(name, attack)
    (group,) = group_records(collect(records.root, ())).groups
    models = tuple(
        model._replace(
            attacks={
                attack: found._replace(rows=attacks[model.name, attack]) for attack, found in model.attacks.items()
            }
        )
        for model in group.models
    )
    return group._replace(models=models)


def column(table, field):
    """Return the values that go under one CSV header."""
    place, part = next(
        (index, item.fields.index(field)) for index, item in enumerate(table.columns) if field in item.fields
    )
    return [row.cells[place][part] for row in table.rows]


def printed(table, header):
    """Return the texts of one printed column."""
    place = next(index for index, item in enumerate(table.columns) if item.header == header)
    return [cell_text(table.columns[place], row.cells[place]) for row in table.rows]


def test_every_pair_has_a_row_for_each_common_attack(records):
    names = ("t/R0", "t/B1", "t/other")
    attacks = {(name, attack): rows_of(30) for name in names for attack in ("fgs", "zoo")}
    attacks["t/B1", "zoo"] = None

    table = pair_table(group_of(records, attacks))

    assert table.name == "t-pairs"
    assert list(zip(printed(table, "Pair"), column(table, "attack"), strict=True)) == [
        ("R0 vs B1", "fgs"),
        ("R0 vs other", "fgs"),
        ("R0 vs other", "zoo"),
        ("B1 vs other", "fgs"),
    ]
    assert column(table, "first")[-1] == "t/B1"


def test_of_more_than_four_models_the_first_regular_one_is_paired_with_the_others(records):
    names = ("t/B0", "t/B1", "t/B2", "t/B3", "t/a")
    table = pair_table(group_of(records, {(name, "fgs"): rows_of(30) for name in names}))

    assert printed(table, "Pair") == ["a vs B0", "a vs B1", "a vs B2", "a vs B3"]
    assert "5 models: a is compared with each of the others." in table.notes


def test_numbers_are_those_of_the_comparison_and_stay_numbers(records):
    smaller = 19.0 + 2.0 * (np.arange(IMAGES) % 2)
    table = pair_table(group_of(records, {("t/R0", "fgs"): rows_of(54, 40.0), ("t/B1", "fgs"): rows_of(12, smaller)}))

    assert printed(table, "First rate (%)") == ["90.00"]
    assert column(table, "second_rate_percent") == [20.0]
    assert column(table, "second_rate_low_percent")[0] == pytest.approx(11.8, abs=0.1)
    assert printed(table, "Difference (points)") == ["70.00 [57.49, 80.10]"]
    assert printed(table, "p") == ["<0.001"]
    assert column(table, "mcnemar_p")[0] == pytest.approx(2 * 0.5**42)
    assert column(table, "both_flipped") == [12]
    assert printed(table, "L∞ difference") == ["20.00 [19.33, 20.67]"]
    assert column(table, "first_linf_median_censored_grey_levels") == [40.0]
    assert printed(table, "Second median L∞") == ["∞"]


def test_accuracy_is_compared_in_a_note_over_all_images(records):
    table = pair_table(group_of(records, {("t/R0", "fgs"): rows_of(5), ("t/B1", "fgs"): rows_of(5)}))

    assert (
        "Accuracy over all 60 test images: R0 vs B1 100.00 and 100.00 %, difference 0.00 [-6.02, 6.02] points, p "
        "1.000." in table.notes
    )


def test_the_same_difference_in_every_image_is_printed_without_an_interval(records):
    table = pair_table(group_of(records, {("t/R0", "fgs"): rows_of(54, 40.0), ("t/B1", "fgs"): rows_of(12, 20.0)}))

    assert printed(table, "L∞ difference") == ["20.00"]
    assert any("none from fewer than 6 images" in note for note in table.notes)


def test_what_cannot_be_compared_is_a_dash(records):
    attacks = {("t/R0", "fgs"): rows_of(0), ("t/B1", "fgs"): rows_of(0)}

    table = pair_table(group_of(records, attacks))

    assert printed(table, "First L∞") == ["–"]  # noqa: RUF001  # an en dash
    assert printed(table, "PASS difference") == ["–"]  # noqa: RUF001
    assert printed(table, "First median L∞") == ["∞"]


def test_models_without_a_common_correct_image_have_no_p(records):
    rows = rows_of(30)
    half = np.arange(IMAGES) < 20
    attacks = {
        ("t/R0", "fgs"): rows._replace(attacked=half, flipped=half),
        ("t/B1", "fgs"): rows._replace(attacked=~half, flipped=~half),
    }

    table = pair_table(group_of(records, attacks))

    assert printed(table, "p") == ["–"]  # noqa: RUF001
    assert column(table, "difference_points") == [None]


@pytest.mark.parametrize("attacks", [{}, {("t/B1", "fgs"): None}, {("t/B1", "hc1"): rows_of(3)}])
def test_without_two_models_with_rows_of_one_attack_there_is_no_table(records, attacks):
    assert pair_table(group_of(records, {("t/R0", "fgs"): rows_of(3)} | attacks)) is None


def test_every_format_can_be_written(records):
    table = pair_table(group_of(records, {("t/R0", "fgs"): rows_of(54), ("t/B1", "fgs"): rows_of(12)}))

    for row in table.rows:
        assert [len(cell) for cell in row.cells] == [len(item.fields) or 1 for item in table.columns]
    for render in RENDERERS.values():
        assert "R0" in render(table)
