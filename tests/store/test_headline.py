"""An audit in one sentence: the number, its interval, and whether to believe it."""

from __future__ import annotations

import pytest

from bangbench.core.statistics import wilson_interval
from bangbench.store.audits import AuditSummary, BudgetRates, ClaimVerdict
from bangbench.store.headline import headline, robust_accuracy


def summary(fallen: int = 44, correct: int = 44, images: int = 100, **verdicts: str) -> AuditSummary:
    claims = tuple(
        ClaimVerdict(
            claim=name.replace("_", "-"), verdict=verdict, reasons=() if verdict == "sound" else ("why",), rate=1
        )
        for name, verdict in ({"predictions": "sound", "worst_case": "sound"} | verdicts).items()
    )
    order = ("sound", "inconclusive", "suspect", "masked")
    budgets = tuple(
        BudgetRates(
            budget=budget,
            flipped={},
            worst_case=count,
            rate=None,
            rate_interval=None,
            robust_accuracy=100 * (correct - count) / images,
        )
        for budget, count in ((4, fallen // 2), (8, fallen))
    )
    return AuditSummary(
        verdict=max((claim.verdict for claim in claims), key=order.index),
        reasons=(),
        accuracy=100 * correct / images,
        images=images,
        correct=correct,
        budgets=budgets,
        claims=claims,
        checks=(),
        forwards=1,
        seconds=1,
    )


def test_the_number_is_of_all_images_within_the_largest_budget():
    assert headline("B1", summary()) == (
        "B1: robust accuracy 0.0 % [0.0, 3.7] within 8/255 (clean 44.0 %, n = 100); the numbers can be trusted"
    )
    found = summary(fallen=10)
    assert robust_accuracy(found, found.budgets[1])[1:3] == wilson_interval(34, 100)
    assert robust_accuracy(found, found.budgets[1]).value == pytest.approx(34.0)


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        ({"worst_case": "masked"}, "attacks were kept from working, so a low rate is no robustness (why)"),
        ({"worst_case": "suspect", "fgs": "masked"}, "the numbers are in doubt (why)"),
        ({"worst_case": "inconclusive"}, "too few images to say whether the numbers can be trusted (why)"),
        (
            {"fgs": "masked", "hc1": "suspect"},
            "this worst case can be trusted, not so the rates of fgs, hc1 (at worst masked)",
        ),
        ({"predictions": "suspect"}, "this worst case can be trusted, not so the rates of accuracy (at worst suspect)"),
    ],
)
def test_it_says_whether_to_believe_the_number_and_what_not_to(verdicts, says):
    assert headline("B1", summary(**verdicts)).endswith(f"; {says}")
