"""One writer a folder: a lock that says who holds it, and that ends with the process which holds it."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from bangbench.core.errors import BenchError, write_errors_explained
from bangbench.core.progress import SILENT, Progress
from bangbench.core.provenance import command_line

#: The lock, and who holds it; in the folder only while it is locked, or after a kill until whoever comes next.
LOCK, HOLDER = ".lock", ".lock-holder"

_POLL_SECONDS = 0.2

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)

#: The folders that are locked here, by process and thread: a forked process holds none of its parent's.
_held: set[tuple[int, int, Path]] = set()


@contextmanager
def folder_lock(folder: Path, wait: float | None = None, progress: Progress = SILENT) -> Iterator[None]:
    """Keep every other command from writing in `folder`, which is created, until the block ends or the process dies.

    wait: seconds to wait for the command that writes there now, said in one line; 0: not at all; None: to its end.
    The thread that holds the lock may take it again. Processes that share the work of one command take none: the
    process that started them holds it for all. Raises `BenchError` that names the holder where waiting did not help,
    for a folder that cannot be written, and for a file system without locks.
    """
    mark = _mark(folder)
    if mark in _held:
        yield
        return
    with write_errors_explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK, fallback_to_soft=False)
    _acquire(lock, folder, wait, progress)
    _held.add(mark)
    try:
        with write_errors_explained(folder / HOLDER):
            (folder / HOLDER).write_text(json.dumps(_this_process()), encoding="utf-8")
        yield
    finally:
        _held.discard(mark)
        # removed while the lock is held, or another's would be; a system that removes no open file keeps them
        for name in (HOLDER, LOCK):
            with suppress(OSError):
                (folder / name).unlink()
        lock.release()


class Holder(NamedTuple):
    """Who holds a lock: process, host, command, and since when (ISO 8601); "?" and 0 where that cannot be read."""

    pid: int = 0
    host: str = "?"
    command: str = "?"
    since: str = "?"


def lock_holder(folder: Path) -> Holder | None:
    """Return who writes in `folder` now, None for nobody: a process that was killed has left its lock open."""
    path = folder / LOCK
    if not path.is_file():
        return None
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return _read_holder(folder) or Holder()
    except OSError:
        return None
    lock.release()
    return None


def forget_left_lock(folder: Path) -> None:
    """Remove the files of a lock that a process left in `folder` which was killed; one that somebody holds stays."""
    if (folder / LOCK).exists() and not is_locked_here(folder):
        with suppress(BenchError), folder_lock(folder, wait=0):
            pass  # who lets go of a lock removes its files


def is_locked_here(folder: Path) -> bool:
    """Return whether this thread is inside a `folder_lock` of `folder`."""
    return _mark(folder) in _held


def _mark(folder: Path) -> tuple[int, int, Path]:
    return os.getpid(), threading.get_ident(), folder.resolve()


def _acquire(lock: FileLock, folder: Path, wait: float | None, progress: Progress) -> None:
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if wait == 0:
                raise
            progress.note(f"{folder} is being written by {_holder(folder)}; waiting for it")
            lock.acquire(timeout=-1 if wait is None else wait, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise BenchError(
            f"{folder} is being written by {_holder(folder)}; wait for it or use another --root"
        ) from error
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise BenchError(
                f"{folder}: the file system there has no locks ({error.strerror}), so that two commands could write "
                "the same files; use another --root"
            ) from error
        with write_errors_explained(folder / LOCK):
            raise


def _this_process() -> dict[str, str | int]:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": platform.node(), "command": command_line(sys.argv), "since": since}


def _holder(folder: Path) -> str:
    """Return who holds the lock, as far as that can be read: it may be written or removed at this very moment."""
    found = _read_holder(folder)
    if found is None:
        return "another process"
    since = datetime.fromisoformat(found.since).astimezone()
    today = since.date() == datetime.now().astimezone().date()
    when = since.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")
    return f"PID {found.pid} on {found.host} ({found.command}, since {when})"


def _read_holder(folder: Path) -> Holder | None:
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        datetime.fromisoformat(found["since"])
        return Holder(int(found["pid"]), str(found["host"]), str(found["command"]), found["since"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
