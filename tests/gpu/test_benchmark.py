"""The benchmark of a GPU runs, here on the processor and as little of it as possible."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_row_has_a_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delitem(sys.modules, "benchmarks", raising=False)
    from benchmarks import gpu

    gpu.main(["--device", "cpu", "--quick", "--out", str(tmp_path / "gpu.json")])
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["device"] == "cpu"
    names = [row["name"] for row in found["rows"]]
    assert len(names) == len(set(names)) == 9
    assert all(row["per_second"] > 0 for row in found["rows"])
