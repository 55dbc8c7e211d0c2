"""`bangbench data cache` says which decoded images are kept, and removes them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from bangbench.data.folder import FolderSource

Invoke = Callable[..., CompletedProcess[str]]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the source of one kept set, and point the cache to it."""
    monkeypatch.setenv("BANGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("bangbench.data.decoded.MOST_IN_MEMORY", 0)
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
    stream = io.BytesIO()
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(stream, "PNG")
    for name in ("ant/0.png", "ant/1.png", "bee/0.png"):
        (tmp_path / "set" / name).write_bytes(stream.getvalue())
    FolderSource(tmp_path / "set").load("test")
    return tmp_path / "set"


def test_what_is_kept_is_listed_and_cleared(kept: Path, bangbench: Invoke) -> None:
    found = json.loads(bangbench("data", "cache", "--json").stdout)
    (own,) = found["sets"]
    assert (own["source"], own["split"], own["images"], found["bound"]) == (str(kept), "test", 3, 20 * 10**9)
    assert found["size"] == own["size"] > 300
    assert "│ test  │ 3      │ 0.0 MB" in bangbench("data", "cache").stdout
    cleared = bangbench("data", "cache", "--clear")
    assert (cleared.returncode, cleared.stderr) == (0, "")
    assert "removed 1 set" in cleared.stdout
    assert json.loads(bangbench("data", "cache", "--json").stdout)["sets"] == []
    assert "no decoded images in" in bangbench("data", "cache").stdout


def test_a_bound_that_is_no_number_is_named(bangbench: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANGBENCH_CACHE_GB", "plenty")
    result = bangbench("data", "cache")
    assert result.returncode == 1
    assert "BANGBENCH_CACHE_GB: expected gigabytes, such as 20, or 0 for none, found 'plenty'" in result.stderr
