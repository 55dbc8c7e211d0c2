"""Atomic writes under every kind of failure, and the names under which things lie."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.store import files
from bangbench.store.files import (
    check_writable,
    sha256_of,
    write_atomically,
    write_bytes,
    write_json,
    write_text,
)
from bangbench.store.layout import check_name, model_folder, results_folder, stage_file, trained_models, versus_name


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return a file with content that must survive."""
    path = tmp_path / "kept.txt"
    path.write_text("old")
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_with_its_folders_and_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "grüße\n")
    assert path.read_bytes() == "grüße\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    assert names_in(path.parent) == ["c.txt"]


def test_the_final_name_does_not_exist_while_the_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent

    write_atomically(path, write)
    assert path.read_text() == "half"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), SystemExit(1)])
def test_a_failing_writer_leaves_the_old_content_and_no_temporary_file(kept: Path, error: BaseException) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(kept, write)
    assert kept.read_text() == "old"
    assert names_in(kept.parent) == ["kept.txt"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space and run the command again"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only; choose another directory"),
        (errno.EACCES, "no permission to write there"),
        (errno.EIO, "see the reason given"),
    ],
)
def test_the_reason_why_a_file_cannot_be_written_comes_with_advice(kept: Path, number: int, advice: str) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(BenchError, match=advice) as caught:
        write_atomically(kept, write)
    assert str(caught.value).startswith(f"cannot write {kept}: {os.strerror(number)}; ")
    assert kept.read_text() == "old"
    assert names_in(kept.parent) == ["kept.txt"]


def test_a_disk_that_is_full_only_when_flushed_keeps_the_old_content(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BenchError, match="the disk is full"):
        write_bytes(kept, b"new")
    assert kept.read_text() == "old"
    assert names_in(kept.parent) == ["kept.txt"]


def test_a_file_where_a_folder_is_needed_is_named(kept: Path) -> None:
    for path in (kept / "model.json", kept / "deep" / "model.json"):
        with pytest.raises(BenchError, match=r"cannot write .*model\.json: .*; a file stands where a folder is needed"):
            write_text(path, "x")


def test_a_folder_where_a_file_is_needed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.json").mkdir()
    with pytest.raises(BenchError, match=r"cannot write .*model\.json"):
        write_text(tmp_path / "model.json", "x")
    assert names_in(tmp_path) == ["model.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_work_starts(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BenchError, match="no permission to write there"):
        check_writable(tmp_path / "results")
    tmp_path.chmod(0o700)


def test_proving_that_a_folder_can_be_written_to_leaves_nothing_but_the_folder(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert names_in(tmp_path / "a" / "b") == []


def test_json_without_a_meaning_is_never_written(kept: Path) -> None:
    for value in (float("nan"), float("inf"), [1, {"x": float("-inf")}]):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(kept, value)
    assert kept.read_text() == "old"


def test_json_can_be_read_and_compared_line_by_line(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": "ε"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": "ε"\n}\n'


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_flushing_happens_before_the_file_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "x", []
    monkeypatch.setattr(files, "_flush_to_disk", lambda _: seen.append(path.exists()))
    write_text(path, "x")
    assert seen == [False]


@pytest.mark.parametrize("name", ["R0", "table1/R0", "lenet_bang", "a.b-c+d", "0", "R0-vs-B1", "reports/R0"])
def test_names_of_models_with_at_most_one_folder_are_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(".", "..", "../x", "a/../x", "a/..", "/etc", "/a/b", "a/b/c", "a//b", "a/", ".hidden", "a/.b"),
        *("", "-x", "a b", "a\\b", "R0\n", "R0\x00", "ä", "~", "C:x"),
    ],
)
def test_names_that_would_leave_their_place_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a name: use letters"):
        check_name(name)
    for folder in (model_folder, results_folder):
        with pytest.raises(UsageError, match="cannot be a name"):
            folder(Path("root"), name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("report", "results/report holds the tables; choose another"),
        ("report/R0", "results/report holds the tables; choose another"),
        ("benchmarks", "results/benchmarks holds the benchmarks; choose another"),
    ],
)
def test_the_names_of_other_folders_are_taken(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        check_name(name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("R0", "B1"), "R0-vs-B1"),
        (("table1/R0", "table1/B1"), "table1/R0-vs-B1"),
        (("table1/R0", "table2/B1"), "table1/R0-vs-table2-B1"),
        (("R0", "table1/B1"), "R0-vs-table1-B1"),
        (("table1/R0", "B1"), "table1/R0-vs-B1"),
        (("table1/R0", "table1/B1", "x/B2", "table1/B3"), "table1/R0-vs-B1-vs-x-B2-vs-B3"),
    ],
)
def test_models_beside_each_other_lie_in_the_folder_of_the_first(names: tuple[str, ...], expected: str) -> None:
    assert check_name(versus_name(names)) == expected


def test_places_are_those_of_the_design() -> None:
    root = Path("root")
    assert model_folder(root, "table1/R0") == Path("root/models/table1/R0")
    assert results_folder(root, "R0") == Path("root/results/R0")
    assert stage_file(Path("m"), 500) == Path("m/stages/000500.safetensors")


def test_trained_models_are_found_at_both_depths_and_nowhere_else(tmp_path: Path) -> None:
    assert trained_models(tmp_path) == []
    for name in ("table1/R0", "B1", "a/b/c", "empty/folder"):
        (tmp_path / "models" / name).mkdir(parents=True)
    for name in ("table1/R0", "B1", "a/b/c"):
        (tmp_path / "models" / name / "model.json").touch()
    assert trained_models(tmp_path) == ["B1", "table1/R0"]


@pytest.mark.parametrize("alone", [False, True])
def test_what_a_killed_process_was_writing_is_removed_at_once_by_who_is_alone(tmp_path: Path, alone: bool) -> None:
    left = tmp_path / "stages" / ".000020.safetensors.x1.tmp"
    left.parent.mkdir()
    left.touch()
    check_writable(tmp_path, alone=alone)
    assert left.exists() != alone


def interrupted_at(line: int, write: Callable[[], None]) -> bool:
    """Run `write`, interrupted before the line-th line of `write_atomically`; return whether it has so many."""
    left = line

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code is not write_atomically.__code__:
            return trace if event == "call" else None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        write()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_whenever_a_write_is_interrupted_nothing_temporary_is_left(tmp_path: Path) -> None:
    line = 1
    while interrupted_at(line, lambda: write_bytes(tmp_path / "a.bin", b"whole")):
        assert not list(tmp_path.glob(".*.tmp")), line
        line += 1
    assert line > 5
    assert (tmp_path / "a.bin").read_bytes() == b"whole"
