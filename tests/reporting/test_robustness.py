"""Robust accuracy against a budget: exact counts, the worst case, and the table of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bangbench.core.statistics import wilson_interval
from bangbench.reporting.robustness import (
    Held,
    linf_or_infinite,
    robust_models,
    robustness_table,
    varied_models,
    worst_case,
)

linf = st.one_of(st.integers(1, 255).map(float), st.floats(0, 255), st.just(math.inf))
linf_values = st.lists(linf, max_size=30)


def images(linf, wrong=0):
    """Return images with these L_inf for the correct ones (infinite: not flipped) and so many wrong ones after them."""
    distance = np.array([*linf, *[math.inf] * wrong], dtype=np.float64)
    flipped, attacked = np.isfinite(distance), np.arange(len(distance)) < len(linf)
    found = np.where(flipped, distance, np.nan)
    return pd.DataFrame({"index": np.arange(len(distance)), "attacked": attacked, "flipped": flipped, "linf": found})


def row(table, model, attack):
    frame = table.frame
    return frame[(frame["id"] == model) & (frame["attack"] == attack)].iloc[0]


@given(linf_values, st.integers(0, 5), st.lists(st.floats(0, 255), max_size=8))
def test_robust_accuracy_is_the_share_of_all_images_that_hold_one_by_one(linf, wrong, budgets):
    total, asked = len(linf) + wrong or 1, [*budgets, *linf[:3]]

    found = Held(np.sort(np.array(linf)), total).accuracy(asked)

    assert found.tolist() == pytest.approx([100 * sum(not value <= each for value in linf) / total for each in asked])


@given(linf_values, st.integers(0, 5))
def test_the_steps_fall_exactly_where_images_flip(linf, wrong):
    total = len(linf) + wrong or 1

    budgets, accuracy = Held(np.sort(np.array(linf, dtype=np.float64)), total).steps()

    assert budgets.tolist() == sorted({0.0, *(value for value in linf if math.isfinite(value))})
    assert (np.diff(accuracy) < 0).all()
    for budget in [*range(0, 256, 5), *budgets]:
        place = np.searchsorted(budgets, budget, side="right") - 1
        assert accuracy[place] == pytest.approx(100 * sum(not value <= budget for value in linf) / total)


@given(st.integers(0, 20).flatmap(lambda n: st.lists(st.lists(linf, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_no_attack_leaves_less_than_the_worst_case(attacks):
    worst = worst_case([images(each, wrong=2) for each in attacks])

    assert worst.tolist() == [min(values) for values in zip(*attacks, strict=True)]


def test_failures_hold_at_every_budget_and_wrong_images_at_none():
    held = Held(np.sort(linf_or_infinite(images([10.0, math.inf], wrong=2))), 4)

    assert held.accuracy([0, 9.9, 10, 255]).tolist() == [50.0, 50.0, 25.0, 25.0]


def test_the_table_has_a_row_per_attack_and_one_for_all_of_them(records):
    records.images("t/R0", "fgs", [4.0, 20.0, math.inf], wrong=1)
    for attack in ("hc1", "deepfool"):
        records.images("t/R0", attack, [40.0, 10.0, math.inf], wrong=1)
    table = records.table(robustness_table)
    worst = row(table, "R0", "worst case")

    assert table.frame["attack"].tolist() == ["fgs", "hc1", "deepfool", "worst case"]
    assert (worst["accuracy_percent"], worst["accuracy_low_percent"]) == (75.0, wilson_interval(3, 4)[0])
    assert row(table, "R0", "fgs")["robust_at_8_grey_levels_percent"] == 50.0
    values = [worst[f"robust_at_{budget}_grey_levels_percent"] for budget in (8, 16, 32, 255)]
    assert values == [50.0, 25.0, 25.0, 25.0]
    assert worst["attacks_covered"] == "fgs hc1 deepfool"
    assert "upper bound" in " ".join(table.notes)


def test_colour_images_get_smaller_budgets(records):
    records.images("t/R0", "fgs", [3.0, 5.0], input_shape=(3, 32, 32))
    table = records.table(robustness_table)

    headers = [column.header for column in table.columns if column.header.startswith("At ")]
    assert headers == [f"At {budget} (%)" for budget in (1, 2, 4, 8, 16, 32, 255)]
    assert row(table, "R0", "fgs")["robust_at_4_grey_levels_percent"] == 50.0


def test_models_attacked_differently_and_attacks_left_out_are_told_in_the_notes(records):
    records.images("t/R0", "fgs", [9.0, 9.0])
    records.images("t/R0", "hc1", [1.0], wrong=1)
    records.images("t/B0", "fgs", [3.0, math.inf])
    records.images("t/B0", "hc1", [3.0, math.inf])
    table = records.table(robustness_table)

    assert row(table, "R0", "worst case")["robust_at_8_grey_levels_percent"] == 100.0
    assert "Not in the worst case, since run on other images or weights: R0 hc1." in table.notes
    assert "R0: fgs; B0: fgs, hc1" in " ".join(table.notes)


@pytest.mark.parametrize(("audit", "verdict"), [({}, "sound"), ({"claims": ()}, "not audited")])
def test_the_worst_case_is_judged_by_the_audit(records, audit, verdict):
    for attack in ("fgs", "fgs-unmasked"):
        records.images("t/B1", attack, [9.0])
    records.audit("t/B1", **audit)
    table = records.table(robustness_table)

    assert row(table, "B1", "fgs")["audit_verdict"] == ("masked" if not audit else "not audited")
    assert row(table, "B1", "worst case")["audit_verdict"] == verdict


def test_there_is_no_table_without_single_images(records):
    records.attack("t/R0", "fgs")
    records.images("t/R0", "hc1", [math.inf]).with_suffix(".parquet").unlink()

    assert records.table(robustness_table) is None
    assert robust_models(records.experiment()) == []


def test_few_models_are_chosen_from_every_method_before_a_second_of_one(records):
    for name in ("t/R0", "t/R1", "t/R2", "t/B0", "t/B1"):
        records.attack(name, "fgs")

    assert [model.name for model in varied_models(records.experiment().models, 3)] == ["t/R0", "t/R1", "t/B0"]
