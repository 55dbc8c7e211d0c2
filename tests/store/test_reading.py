"""Many files for one purpose: no file keeps another from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bangbench.core import memory
from bangbench.core.errors import BenchError
from bangbench.core.memory import check_memory
from bangbench.store.reading import attempt


def test_what_cannot_be_read_is_left_out_and_named_whatever_is_wrong(tmp_path: Path) -> None:
    def read(path: Path) -> str | None:
        if path.name == "refused":
            raise BenchError(f"{path}: of another kind")
        if path.name == "broken":
            raise RecursionError("maximum recursion\ndepth exceeded")
        return None if path.name == "absent" else path.name

    names = ("first", "refused", "broken", "absent", "last")
    left_out: list[str] = []
    contents = [attempt(tmp_path / name, read, left_out) for name in names]
    assert [content for content in contents if content is not None] == ["first", "last"]
    assert left_out[0] == f"{tmp_path / 'refused'}: of another kind"
    assert left_out[1].startswith(f"{tmp_path / 'broken'}: cannot be used (RecursionError: maximum recursion ")
    assert not any("\n" in line for line in left_out)


def test_half_of_the_memory_available_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2 << 30)
    check_memory(1 << 30, "x.npz")
    with pytest.raises(BenchError, match=r"^x\.npz: expected .* available \(2\.00 GiB\), found .* 1\.00 GiB"):
        check_memory((1 << 30) + 1, "x.npz")
