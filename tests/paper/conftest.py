"""The synthetic records of the report's tests."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

_shared = runpy.run_path(str(Path(__file__).parent.parent / "reporting" / "conftest.py"))
records = _shared["records"]


@pytest.fixture
def trained(records):
    """Return a function that writes the card of the paper's regular model of a seed, and an attack on it."""

    def write(name, seed, attack="fgs", **changes):
        model = {"seed": seed, "weights_sha256": f"{seed:02x}" * 32, "iterations": 10_000}
        model |= {"method": "regular", "method_settings": {}}
        records.card(name, **model)
        records.attack(name, attack, **model, **changes)

    return write
