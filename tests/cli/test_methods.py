"""`bangbench methods`: all methods in a table, and one with its settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from bangbench.training.methods.registry import METHODS

Invoke = Callable[..., CompletedProcess[str]]


def test_all_methods_are_listed_with_what_a_user_needs(bangbench: Invoke) -> None:
    table = bangbench("methods")
    assert (table.returncode, table.stderr) == (0, "")
    told = json.loads(bangbench("methods", "--json").stdout)["methods"]
    assert list(told) == METHODS.names()
    for name, fact in told.items():
        assert name in table.stdout
        assert fact["summary"]
        assert fact["paper"]
        assert fact["trained_on"] is not None, f"{name} does not say which attacks it trains on"
        for setting, value in fact["settings"].items():
            assert value["description"], f"{name}: nothing is told of {setting}"


def test_one_method_tells_its_settings_with_types_and_defaults(bangbench: Invoke) -> None:
    told = json.loads(bangbench("methods", "pgd-at", "--json").stdout)["methods"]
    assert set(told) == {"pgd-at"}
    assert told["pgd-at"]["cost"] == 33.0
    step, steps = (told["pgd-at"]["settings"][name] for name in ("step", "steps"))
    assert (step["type"], step["default"], steps["type"], steps["default"]) == (
        "float > 0, <= 1",
        0.01,
        "int >= 1",
        40,
    )
    text = bangbench("methods", "pgd-at").stdout
    assert "Madry et al. 2018" in text
    assert "int >= 1" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("methods", "bnag"), "unknown method 'bnag': did you mean 'bang'?"),
        (
            ("train", "X", "--data", "digits", "--method", "pgd-at", "--option", "stepz=3"),
            "method 'pgd-at' has no setting 'stepz' (it has: budget, warmup, step, steps); did you mean 'step'?",
        ),
    ],
)
def test_a_slip_of_the_pen_is_met_with_the_nearest_name(
    bangbench: Invoke, words: tuple[str, ...], message: str
) -> None:
    result = bangbench(*words)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"bangbench: {message}\n"
