"""Rate policies: their exact values, and what is not a policy."""

from __future__ import annotations

import pytest

from bangbench.core.errors import UsageError
from bangbench.training.rates import rate_policy


@pytest.mark.parametrize("iteration", [0, 1, 499, 9_999])
def test_inv_is_caffes(iteration):
    rate = rate_policy("inv(0.0001, 0.75)", 0.01, 10_000)
    assert rate(iteration) == pytest.approx(0.01 * (1 + 0.0001 * iteration) ** -0.75, rel=1e-15)


def test_inv_has_the_value_worked_out_by_hand():
    assert rate_policy("inv(0.5, 2)", 1.0, 10)(2) == 0.25
    assert rate_policy("inv(0, 2)", 0.3, 10)(1000) == 0.3


@pytest.mark.parametrize(
    ("iteration", "factor"),
    [(0, 1), (17_999, 1), (18_000, 0.1), (18_999, 0.1), (19_000, 0.01), (10**6, 0.01)],
)
@pytest.mark.parametrize("text", ["steps(18000, 19000)", " steps(18000,19000) ", "steps(19000, 18000)"])
def test_steps_change_at_their_iterations(text, iteration, factor):
    assert rate_policy(text, 0.001, 20_000)(iteration) == pytest.approx(0.001 * factor, rel=1e-12)


def test_constant_stays():
    rate = rate_policy("constant()", 0.07, 10)
    assert [rate(iteration) for iteration in (0, 5, 10**7)] == [0.07] * 3


def test_cosine_falls_from_the_rate_to_nothing():
    rate = rate_policy("cosine()", 0.2, 300)
    assert [rate(iteration) for iteration in (0, 100, 150, 300)] == pytest.approx([0.2, 0.15, 0.1, 0.0], abs=1e-15)


def test_triangle_is_that_of_fast_adversarial_training():
    # np.interp(step / steps, [0, 0.4, 1], [0, 5e-3, 0]) after each step
    rate = rate_policy("triangle(0.4)", 5e-3, 10)
    values = [1.25e-3, 2.5e-3, 3.75e-3, 5e-3, 25e-3 / 6, 20e-3 / 6, 2.5e-3, 10e-3 / 6, 5e-3 / 6, 0.0]
    assert [rate(iteration) for iteration in range(10)] == pytest.approx(values, rel=1e-12, abs=1e-15)


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
        "cosine(1)",
        "triangle()",
        "triangle(0)",
        "triangle(1)",
        "triangle(0.2, 0.4)",
    ],
)
def test_anything_else_is_refused_with_the_form_that_is_wanted(text):
    forms = {
        "constant": "constant()",
        "cosine": "cosine()",
        "inv": "inv(GAMMA, POWER)",
        "steps": "steps(ITERATION, ...)",
        "triangle": "triangle(PEAK_AT)",
    }
    with pytest.raises(UsageError) as error:
        rate_policy(text, 0.1, 10)
    message = str(error.value)
    assert message.startswith(f"rate policy '{text}': ")
    assert forms.get(text.partition("(")[0], forms["inv"]) in message
