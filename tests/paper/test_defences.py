"""What papers claim of their defences is judged by intervals, and not where the worst case is in doubt."""

from __future__ import annotations

import pytest

from bangbench.core.statistics import newcombe_interval
from bangbench.paper.published import defence_claims


def judged(records):
    return records.table(defence_claims).frame.set_index("method")


def test_nothing_is_claimed_of_models_that_are_not_audited(records):
    records.attack("t/regular", "fgs")
    records.attack("t/pgd-at", "fgs", method="pgd-at")
    assert records.table(defence_claims) is None


def test_a_claim_agrees_differs_or_is_left_open_by_the_interval_of_the_difference(records):
    records.audit("t/regular", budgets=(records.held(76, 980),))
    records.audit("t/pgd-at", budgets=(records.held(76, 600),), method="pgd-at")
    records.audit("t/trades", budgets=(records.held(76, 700),), method="trades")
    records.audit("t/mart", budgets=(records.held(76, 595),), method="mart")
    records.audit("t/free-at", budgets=(records.held(76, 610),), method="free-at")
    found = judged(records)

    assert found["verdict"].to_dict() == {
        "pgd-at": "agrees", "trades": "differs", "mart": "no difference found", "free-at": "agrees",
    }  # fmt: skip
    assert found.loc["trades", "difference_points"] == pytest.approx(29.0 - 39.0)
    low, high = newcombe_interval(290, 1000, 390, 1000)
    assert found.loc["trades", "difference_low_points"] == pytest.approx(low)
    assert found.loc["trades", "difference_high_points"] == pytest.approx(high)


def test_of_several_models_of_a_method_the_one_called_after_it_stands_for_it(records):
    records.audit("t/regular", budgets=(records.held(76, 980),))
    records.audit("t/awp", budgets=(records.held(76, 980),), method="pgd-at")
    records.audit("t/pgd-at", budgets=(records.held(76, 600),), method="pgd-at")
    assert list(judged(records).index) == ["pgd-at"]


def test_as_robust_is_not_found_of_a_few_images(records):
    records.audit("t/pgd-at", budgets=(records.held(76, 6, 10, 10),), method="pgd-at", images=10, correct=10)
    records.audit("t/free-at", budgets=(records.held(76, 6, 10, 10),), method="free-at", images=10, correct=10)
    assert judged(records).loc["free-at", "verdict"] == "not comparable: too few images"


def test_a_worst_case_in_doubt_is_compared_with_nothing(records):
    doubted = records.audit("t/distillation", budgets=(records.held(76, 100),), method="distillation")
    doubted.write_text(doubted.read_text().replace('"claim": "worst-case",\n        "verdict": "sound"',
                                                   '"claim": "worst-case",\n        "verdict": "masked"'))  # fmt: skip
    records.audit("t/regular", budgets=(records.held(76, 980),))
    row = judged(records).loc["distillation"]
    assert row["verdict"] == "not comparable: the worst case of distillation is masked"
    assert row["ours_percent"] is None


def test_clean_accuracy_is_compared_where_that_is_claimed(records):
    records.audit("t/pgd-at", budgets=(records.held(76, 600),), method="pgd-at", correct=900, accuracy=90.0)
    records.audit("t/iat", budgets=(records.held(76, 600),), method="iat", correct=970, accuracy=97.0)
    row = judged(records).loc["iat"]
    assert (row["ours_percent"], row["beside_percent"], row["verdict"]) == (97.0, 90.0, "agrees")
