"""Two models on the same images: differences with intervals, and what they say in words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.statistics import mcnemar, paired_rate_difference, wilson_interval
from bangbench.reporting.pairs import compare, compare_named, pair_table, paragraph

NEVER = math.inf


def comparison_of(records):
    first, second = records.experiment().models
    return compare(first, second)


def test_rates_are_over_the_images_that_both_classify_correctly(records):
    records.images("t/R0", "fgs", [4.0, 9.0, 12.0, NEVER])
    records.images("t/B1", "fgs", [8.0, NEVER, NEVER], wrong=1)
    row = comparison_of(records).attacks["fgs"]
    flipped = np.array([True, True, True]), np.array([True, False, False])

    assert (row["images"], row["both_flipped"]) == (3, 1)
    assert (row["first_rate_percent"], row["second_rate_percent"]) == (100.0, pytest.approx(100 / 3))
    assert row["second_rate_low_percent"] == wilson_interval(1, 3)[0]
    assert row["difference_points"] == paired_rate_difference(*flipped).value
    assert row["mcnemar_p"] == mcnemar(2, 0)
    assert (row["first_linf_mean_grey_levels"], row["second_linf_mean_grey_levels"]) == (4.0, 8.0)
    assert (row["linf_difference_grey_levels"], row["linf_difference_low_grey_levels"]) == (-4.0, None)
    assert row["first_linf_median_censored_grey_levels"] == 9.0
    assert row["second_linf_median_censored_grey_levels"] == math.inf


def test_the_table_has_a_row_per_pair_and_attack(records):
    for name in ("t/R0", "t/R1", "t/B1"):
        records.images(name, "fgs", [4.0] * 9 + [NEVER])
    table = records.table(pair_table)

    assert table.frame["_label"].tolist() == ["R0 vs R1", "R0 vs B1", "R1 vs B1"]
    assert "_label" not in table.csv_frame
    assert table.printed()[0][1][3:6] == ["90.00", "90.00", "0.00 [-27.75, 27.75]"]
    assert any("Accuracy over all 10 test images: R0 vs R1 100.00 and 100.00 %" in note for note in table.notes)


def test_of_many_models_the_first_regular_one_is_compared_with_each(records):
    for name in ("t/R0", "t/R1", "t/B1", "t/B2", "t/B3"):
        records.images(name, "fgs", [4.0, NEVER])
    table = records.table(pair_table)

    assert table.frame["first"].tolist() == ["t/R0"] * 4
    assert "5 models: R0 is compared with each of the others." in table.notes


def test_without_single_images_of_one_attack_on_both_there_is_nothing_to_compare(records):
    records.images("t/R0", "fgs", [4.0])
    records.images("t/B1", "hc1", [4.0])

    assert records.table(pair_table) is None
    with pytest.raises(BenchError, match=r"found none \(t/R0: fgs; t/B1: hc1\)"):
        comparison_of(records)


def test_other_images_are_refused(records):
    records.images("t/R0", "fgs", [4.0, 5.0])
    records.images("t/B1", "fgs", [4.0, 5.0])
    first, second = records.experiment().models
    images = second.attacks["fgs"].images.assign(index=[1, 2])
    moved = second._replace(attacks={"fgs": second.attacks["fgs"]._replace(images=images)})

    with pytest.raises(BenchError, match="to be measured on the same images"):
        compare(first, moved)


def test_the_paragraph_puts_no_model_above_the_other_where_chance_may_have(records):
    records.images("t/R0", "fgs", [4.0] * 9 + [NEVER])
    records.images("t/B1", "fgs", [4.0] * 8 + [NEVER] * 2)
    told = paragraph(comparison_of(records))

    assert "fgs flips 90.00 % for R0 and 80.00 % for B1: a difference of 10.00" in told
    assert "no difference can be told" in told.split("fgs flips")[1]


def test_the_paragraph_says_which_model_is_flipped_more_often_and_why_that_is_no_robustness(records):
    records.images("t/R0", "fgs", [4.0] * 100)
    records.images("t/B1", "fgs", [4.0] * 5 + [NEVER] * 95)
    for name in ("t/R0", "t/B1"):
        records.images(name, "fgs-unmasked", [4.0] * 100)
    records.audit("t/B1")
    told = paragraph(comparison_of(records))

    assert "R0 is flipped more often, by 95.00 [" in told
    assert "FGS against fgs-unmasked (B1 5.00 against 100.00 %" in told
    assert "what is masked is no robustness of B1" in told
    assert "R0 is not audited" in told
    assert "The audit of B1: robust accuracy" in told
    assert told.index("FGS against fgs-unmasked") < told.index("fgs flips 100.00 %")


def test_where_no_image_is_classified_correctly_by_both_nothing_is_said_of_attacks(records):
    records.images("t/R0", "fgs", [4.0], wrong=1)
    records.images("t/B1", "fgs", [], wrong=2)

    assert "No image is classified correctly by both" in paragraph(comparison_of(records))


def test_models_of_two_folders_are_compared_where_their_images_are_the_same(records):
    records.images("t/R0", "fgs", [4.0, 5.0])
    records.images("mine", "fgs", [4.0, NEVER])
    records.attack("other/R0", "fgs", data="digits")
    experiments = records.experiments()

    assert compare_named(experiments, ("t/R0", "mine")).attacks["fgs"]["both_flipped"] == 1
    with pytest.raises(BenchError, match="t/R0 and other/R0 have no results on the same images"):
        compare_named(experiments, ("t/R0", "other/R0"))
    with pytest.raises(UsageError, match=r"did you mean 't/R0'\?"):
        compare_named(experiments, ("t/R", "mine"))
    assert json.dumps(compare_named(experiments, ("t/R0", "mine")).accuracy)


def test_five_images_that_differ_are_too_few_for_the_exact_test(records):
    records.images("t/R0", "fgs", [4.0] * 100)
    records.images("t/B1", "fgs", [4.0] * 95 + [NEVER] * 5)
    comparison = comparison_of(records)
    row = comparison.attacks["fgs"]

    assert row["difference_low_points"] > 0 and row["mcnemar_p"] == 0.0625
    assert "p = 0.062: no difference can be told" in paragraph(comparison)
