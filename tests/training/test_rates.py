"""Rate policies: their exact values, and what is not a policy."""

from __future__ import annotations

import re

import pytest

from bangbench.core.errors import UsageError
from bangbench.training.rates import rate_policy


@pytest.mark.parametrize("iteration", [0, 1, 499, 9_999])
def test_inv_is_caffes(iteration):
    rate = rate_policy("inv(0.0001, 0.75)", 0.01)
    assert rate(iteration) == pytest.approx(0.01 * (1 + 0.0001 * iteration) ** -0.75, rel=1e-15)


def test_inv_has_the_value_worked_out_by_hand():
    assert rate_policy("inv(0.5, 2)", 1.0)(2) == 0.25
    assert rate_policy("inv(0, 2)", 0.3)(1000) == 0.3


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [(0, 1), (17_999, 1), (18_000, 0.1), (18_999, 0.1), (19_000, 0.01), (10**6, 0.01)],
)
@pytest.mark.parametrize("text", ["steps(18000, 19000)", " steps(18000,19000) ", "steps(19000, 18000)"])
def test_steps_change_at_their_iterations(text, iteration, factor):
    assert rate_policy(text, 0.001)(iteration) == pytest.approx(0.001 * factor, rel=1e-12)


def test_constant_stays():
    rate = rate_policy("constant()", 0.07)
    assert [rate(iteration) for iteration in (0, 5, 10**7)] == [0.07] * 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "poly(1, 2)",
        "inv",
        "inv(0.0001)",
        "inv(1, 2, 3)",
        "inv(1, 2",
        "inv(1, 2) steps(3)",
        "inv(-1, 0.75)",
        "inv(nan, 1)",
        "inv(1, inf)",
        "inv(1,,2)",
        "steps()",
        "steps(a)",
        "steps(100 200)",
        "steps(100, nan)",
        "constant(0.1)",
    ],
)
def test_anything_else_is_refused_with_the_forms_there_are(text):
    forms = "expected inv(GAMMA, POWER), steps(ITERATION, ...) or constant()"
    with pytest.raises(UsageError, match=f"rate policy '{re.escape(text)}': .*{re.escape(forms)}"):
        rate_policy(text, 0.1)
