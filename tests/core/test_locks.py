"""One writer a folder: who is refused, who waits, and when a lock ends."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bangbench.core.errors import BenchError
from bangbench.core.locks import folder_lock, is_locked_here
from bangbench.core.progress import Silent

#: Locks a folder, says so by a file beside it, and keeps it until that file is gone.
HOLDER = """
import sys, time
from pathlib import Path
from bangbench.core.locks import folder_lock
with folder_lock(Path(sys.argv[1]), 0):
    Path(sys.argv[2]).touch()
    while Path(sys.argv[2]).exists():
        time.sleep(0.01)
"""
_PATIENCE = 60.0


class Notes(Silent):
    """A progress that keeps the lines it is told, and does something at each."""

    def __init__(self, reaction: Callable[[], None] = lambda: None) -> None:
        self.notes: list[str] = []
        self._reaction = reaction

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._reaction()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "results" / "R0"


@pytest.fixture
def holder(folder: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that holds the lock; it lets go when the file `held` is removed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), str(tmp_path / "held")])
    try:
        wait_for((tmp_path / "held").exists)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_locked_folder_is_refused_and_its_holder_named(holder: subprocess.Popen[bytes], folder: Path) -> None:
    with pytest.raises(BenchError) as caught, folder_lock(folder, 0):
        pytest.fail("two processes write in one folder")
    message = str(caught.value)
    for part in (str(folder), f"PID {holder.pid} ", os.uname().nodename, "held", "since", "use another --root"):
        assert part in message
    with pytest.raises(BenchError, match=f"PID {holder.pid} "), folder_lock(folder, 0.3):
        pytest.fail("two processes write in one folder")


def test_the_second_waits_says_for_whom_and_goes_on_when_the_first_has_ended(
    holder: subprocess.Popen[bytes], folder: Path, tmp_path: Path
) -> None:
    progress = Notes((tmp_path / "held").unlink)
    with folder_lock(folder, None, progress):
        assert holder.wait(_PATIENCE) == 0
    assert len(progress.notes) == 1
    assert f"{folder} is being written by PID {holder.pid} " in progress.notes[0]


def test_a_killed_holder_holds_no_longer(holder: subprocess.Popen[bytes], folder: Path) -> None:
    holder.kill()
    holder.wait()
    progress = Notes()
    with folder_lock(folder, 0, progress):
        assert is_locked_here(folder)
    assert progress.notes == []
    assert list(folder.iterdir()) == []


def test_nothing_is_left_in_the_folder_whether_the_block_ends_well_or_not(folder: Path) -> None:
    with folder_lock(folder, 0):
        assert list(folder.iterdir()) != []
    assert list(folder.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), folder_lock(folder, 0):
        raise KeyboardInterrupt
    assert list(folder.iterdir()) == []
    assert not is_locked_here(folder)


def test_the_thread_that_holds_a_lock_may_take_it_again_and_keeps_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with folder_lock(folder, 0):
        with folder_lock(folder.relative_to(tmp_path), 0):
            pass
        assert is_locked_here(folder)
        arguments = [sys.executable, "-c", HOLDER, str(folder), str(tmp_path / "held")]
        other = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert f"is being written by PID {os.getpid()} " in other.stderr
    with folder_lock(folder, 0):
        pass


def test_another_thread_is_refused_like_another_process(folder: Path) -> None:
    refused: list[str] = []

    def take() -> None:
        try:
            with folder_lock(folder, 0):
                pass
        except BenchError as error:
            refused.append(str(error))

    with folder_lock(folder, 0):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join()
        assert is_locked_here(folder)
    assert len(refused) == 1


def test_folders_are_locked_one_by_one(folder: Path) -> None:
    with folder_lock(folder, 0), folder_lock(folder.with_name("B1"), 0):
        assert not is_locked_here(folder.parent)


@pytest.mark.parametrize("found", ["", "{", "[]", '{"pid": 1}', None])
def test_a_holder_that_cannot_be_read_still_holds(
    holder: subprocess.Popen[bytes], folder: Path, found: str | None
) -> None:
    (note,) = (path for path in folder.iterdir() if path.stat().st_size)
    note.unlink() if found is None else note.write_text(found)
    with pytest.raises(BenchError, match="is being written by another process"), folder_lock(folder, 0):
        pytest.fail("two processes write in one folder")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    message = r"the file system there has no locks .*; use another --root"
    with pytest.raises(BenchError, match=message), folder_lock(folder, None):
        pytest.fail("wrote without a lock")
    assert not is_locked_here(folder)


def test_a_folder_that_cannot_be_written_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(BenchError, match="a file stands where a folder is needed"), folder_lock(folder, 0):
        pytest.fail("locked a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    try:
        with pytest.raises(BenchError, match="no permission to write there"), folder_lock(folder, 0):
            pytest.fail("locked a folder without permission")
    finally:
        folder.chmod(0o700)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("name", ["models/table1/R0", "results/table1/R0", "results/table1/R0-vs-B1"])
def test_git_does_not_show_a_lock(name: str) -> None:
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    for path in (".lock", ".lock-holder"):
        words = ["git", "-C", str(root), "check-ignore", "-q", f"{name}/{path}"]
        assert subprocess.run(words, check=False).returncode == 0
