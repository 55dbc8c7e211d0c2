"""Robust accuracy against budgets: compared with counting images one by one, and the table made of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bangbench.core.errors import BenchError
from bangbench.core.statistics import wilson_interval
from bangbench.reporting.collect import collect
from bangbench.reporting.groups import group_records
from bangbench.reporting.per_image import AttackRows
from bangbench.reporting.render import to_csv, to_latex
from bangbench.reporting.robustness import robust_accuracy, robust_counts, same_images, step_curve, worst_case
from bangbench.reporting.robustness_rows import robust_models, robustness_table, varied_models

linf = st.one_of(st.integers(1, 255).map(float), st.floats(0, 255), st.just(math.inf))
linf_values = st.lists(linf, max_size=30)


def attack_rows(linf, wrong=0):
    """Return rows with these L_inf for the correct images (infinite: not flipped) and so many wrong ones after them."""
    distances = np.array([*linf, *[math.inf] * wrong], dtype=np.float64)
    flipped, attacked = np.isfinite(distances), np.arange(len(distances)) < len(linf)
    numbers = np.where(flipped, distances, np.nan)
    indices = np.arange(len(distances))
    return AttackRows(indices, attacked, flipped, numbers, pass_definition=numbers, margin=numbers, true_logit=numbers)


def group_with(records, rows, **changes):
    """Return the group of these models and attacks, with these rows; None: the record alone."""
    for name, attack in rows:
        records.attack(name, attack, **changes)
    (group,) = group_records(collect(records.root, ())).groups
    models = []
    for model in group.models:
        attacks = {key: found._replace(rows=rows[model.name, key]) for key, found in model.attacks.items()}
        models.append(model._replace(attacks=attacks))
    return group._replace(models=tuple(models))


def printed(table, model, attack):
    """Return the budgets' values of one row by header."""
    (row,) = [row for row in table.rows if (row.cells[0][0], row.cells[4][0]) == (model, attack)]
    cells = zip(table.columns, row.cells, strict=True)
    return {column.header: cell for column, cell in cells if column.header.endswith("(%)")}


@given(linf_values, st.integers(0, 5), st.lists(st.floats(0, 255), max_size=8))
def test_robust_accuracy_is_the_share_of_all_images_that_hold_one_by_one(linf, wrong, budgets):
    total = len(linf) + wrong or 1

    found = robust_accuracy(np.array(linf), total, [*budgets, *linf[:3]])

    expected = [100 * sum(not value <= budget for value in linf) / total for budget in [*budgets, *linf[:3]]]
    assert found.tolist() == pytest.approx(expected)


@given(linf_values, st.integers(0, 5))
def test_the_step_curve_falls_exactly_where_images_flip(linf, wrong):
    total = len(linf) + wrong or 1

    curve = step_curve(np.array(linf, dtype=np.float64), total)

    assert curve.budgets.tolist() == sorted({0.0, *(value for value in linf if math.isfinite(value))})
    assert (np.diff(curve.accuracy) < 0).all()
    for budget in [*range(0, 256, 5), *curve.budgets]:
        place = np.searchsorted(curve.budgets, budget, side="right") - 1
        assert curve.accuracy[place] == pytest.approx(100 * sum(not value <= budget for value in linf) / total)


@given(st.integers(0, 20).flatmap(lambda n: st.lists(st.lists(linf, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_no_attack_leaves_less_than_the_worst_case(attacks):
    worst = worst_case([attack_rows(each, wrong=2) for each in attacks])

    assert worst.tolist() == [min(values) for values in zip(*attacks, strict=True)]
    for each in attacks:
        assert (robust_counts(worst, range(256)) <= robust_counts(np.array(each), range(256))).all()


def test_failures_hold_at_every_budget_and_wrong_images_at_none():
    linf = attack_rows([10.0, math.inf], wrong=2).linf_or_infinite()

    assert robust_accuracy(linf, 4, [0, 9.9, 10, 255]).tolist() == [50.0, 50.0, 25.0, 25.0]


def test_a_total_smaller_than_the_correct_images_is_refused():
    with pytest.raises(BenchError, match="expected a total of all test images, 3 or more, found 2"):
        robust_accuracy(np.ones(3), 2, [8])
    with pytest.raises(BenchError, match="1 or more, found 0"):
        robust_accuracy(np.ones(0), 0, [8])


def test_a_worst_case_over_other_images_is_refused_and_such_attacks_are_told_apart():
    first, moved = attack_rows([1.0, 2.0]), attack_rows([1.0, 2.0])
    moved = moved._replace(indices=moved.indices + 1)
    fewer_correct = attack_rows([1.0], wrong=1)

    assert list(same_images({"fgs": first, "hc1": moved, "own": fewer_correct, "other": first})) == ["fgs", "other"]
    assert same_images({}) == {}
    for other in (moved, fewer_correct):
        with pytest.raises(BenchError, match="expected attacks over the same images"):
            worst_case([first, other])
    with pytest.raises(BenchError, match="expected at least one attack"):
        worst_case([])


def test_the_table_has_a_row_per_attack_and_one_for_all_of_them(records):
    fgs, hc1 = attack_rows([4.0, 20.0, math.inf], wrong=1), attack_rows([40.0, 10.0, math.inf], wrong=1)
    group = group_with(records, {("t/R0", "fgs"): fgs, ("t/R0", "hc1"): hc1, ("t/R0", "deepfool"): hc1})

    table = robustness_table(group)

    assert table.name == "t-robustness"
    assert [row.cells[4][0] for row in table.rows] == ["fgs", "hc1", "deepfool", "worst case"]
    assert printed(table, "R0", "worst case")["Clean (%)"] == (75.0, *wilson_interval(3, 4))
    assert printed(table, "R0", "fgs")["At 8 (%)"] == (50.0, *wilson_interval(2, 4))
    values = [cell[0] for cell in printed(table, "R0", "worst case").values()]
    assert values == [75.0, 50.0, 25.0, 25.0, 25.0, 25.0, 25.0, 25.0]
    assert any("Worst case" in note and "(fgs, hc1, deepfool)" in note for note in table.notes)
    assert "upper bound" in " ".join(table.notes)


def test_the_csv_names_units_and_the_attacks_covered(records):
    group = group_with(records, {("t/R0", "fgs"): attack_rows([9.0]), ("t/R0", "hc1"): attack_rows([9.0])})

    header, *_, last = to_csv(robustness_table(group)).splitlines()

    fields = dict(zip(header.split(","), last.split(","), strict=True))
    assert (fields["attack"], fields["attacks_covered"], fields["images"]) == ("worst case", "fgs hc1", "1")
    assert fields["robust_at_8_grey_levels_percent"] == "100.0"
    assert float(fields["robust_at_16_grey_levels_high_percent"]) == pytest.approx(wilson_interval(0, 1)[1])


def test_colour_images_get_smaller_budgets(records):
    rows = {("t/R0", "fgs"): attack_rows([3.0, 5.0])}

    table = robustness_table(group_with(records, rows, input_shape=(3, 32, 32)))

    headers = [column.header for column in table.columns if column.header.startswith("At ")]
    assert headers == [f"At {budget} (%)" for budget in (1, 2, 4, 8, 16, 32, 255)]
    assert printed(table, "R0", "fgs")["At 4 (%)"][0] == 50.0


def test_models_attacked_differently_are_told_apart_in_the_notes(records):
    rows = attack_rows([3.0, math.inf])
    group = group_with(records, {("t/R0", "fgs"): rows, ("t/R0", "hc1"): rows, ("t/B0", "fgs"): rows})

    assert "R0: fgs, hc1; B0: fgs" in " ".join(robustness_table(group).notes)


def test_an_attack_over_other_images_keeps_its_row_and_leaves_the_worst_case(records):
    other = attack_rows([1.0], wrong=1)
    group = group_with(records, {("t/R0", "fgs"): attack_rows([9.0, 9.0]), ("t/R0", "hc1"): other})

    table = robustness_table(group)

    assert printed(table, "R0", "hc1")["At 8 (%)"][0] == 0.0
    assert printed(table, "R0", "worst case")["At 8 (%)"][0] == 100.0
    assert "Not in the worst case, since run on other images or weights: R0 hc1." in table.notes


def test_there_is_no_table_without_single_images(records):
    group = group_with(records, {("t/R0", "fgs"): None, ("t/R0", "hc1"): attack_rows([])})

    assert robustness_table(group) is None
    assert robust_models(group) == []


def test_the_table_prints_as_latex_without_signs_that_latex_lacks(records):
    text = to_latex(robustness_table(group_with(records, {("t/R0", "fgs"): attack_rows([9.0])})))

    assert text.isascii()


def test_few_models_are_chosen_from_every_method_before_a_second_of_one(records):
    names = ["t/R0", "t/R1", "t/R2", "t/B0", "t/B1"]
    group = group_with(records, {(name, "fgs"): None for name in names})

    assert [model.name for model in varied_models(group.models, 3)] == ["t/R0", "t/R1", "t/B0"]
    assert [model.name for model in varied_models(group.models, 2)] == ["t/R0", "t/B0"]
    assert [model.name for model in varied_models(group.models, 9)] == names
