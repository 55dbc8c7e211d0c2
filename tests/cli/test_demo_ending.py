"""What the end of a recipe says of its numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bangbench.cli.reproduce import _closing
from bangbench.recipes.spec import ReproduceSpec


def result(name: str, **rates: float) -> Any:
    """Return what a recipe leaves of one model: its attacks with their rates in percent."""
    attacks = [
        SimpleNamespace(
            attack=attack.replace("_", "-"), model=SimpleNamespace(name=name), summary=SimpleNamespace(rate=rate)
        )
        for attack, rate in rates.items()
    ]
    return SimpleNamespace(attacks=attacks)


@pytest.mark.parametrize(("root", "words"), [(".", ""), ("there", " --root there")])
def test_a_low_rate_that_rises_without_underflow_is_explained(root: str, words: str) -> None:
    models = [result("demo/R0", fgs=98.0, fgs_unmasked=100.0), result("demo/B1", fgs=4.2, fgs_unmasked=99.8)]
    played: Any = SimpleNamespace(models=models, audits=[])
    text = _closing(played, ReproduceSpec(recipe="demo", root=Path(root)))
    assert "FGS flips 4 % of what demo/B1 gets right, and 100 % once its gradient cannot underflow" in text
    assert text.splitlines()[-3:-1] == [
        f"  bangbench report demo/B1{words}",
        f"  bangbench show demo/B1 fgs-unmasked{words}",
    ]


def test_nothing_is_said_of_underflow_where_there_is_none() -> None:
    played: Any = SimpleNamespace(models=[result("demo/R0", fgs=98.0, fgs_unmasked=100.0)], audits=[])
    assert "underflow" not in _closing(played, ReproduceSpec(recipe="demo"))
