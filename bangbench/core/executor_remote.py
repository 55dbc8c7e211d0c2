"""What executors on other machines share: how a job travels, and the folder through which it tells how far it is.

The driver and the machines see one root. A job writes what it has to say to a file there, line by line, and the driver
reads on: no connection has to be kept, and a driver that is gone is missed by nobody.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import shutil
import sys
import uuid
from collections import deque
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from bangbench import __version__
from bangbench.core.errors import BenchError, write_errors_explained
from bangbench.core.executor import Job, Message, perform

#: Folder under a root in which the jobs of every driver have one of their own.
JOBS = ".jobs"

#: Versions that decide the bits of a result.
_COMPARED = ("torch", "numpy")


class Parcel(NamedTuple):
    """A job as it travels, and what the process that does it has to find or to be given.

    job: pickled, since its module may be found only in `directory` and on `path`; folder: of the messages; seen,
    environment: versions and variables of the driver.
    """

    number: int
    job: bytes
    folder: Path
    versions: dict[str, str]
    environment: dict[str, str]
    directory: Path
    path: tuple[str, ...]


def pack(number: int, job: Job, folder: Path) -> Parcel:
    """Return the job with what this process has that another needs."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("BANGBENCH_")}
    return Parcel(number, pickle.dumps(job), folder, versions(), environment, Path.cwd(), tuple(sys.path))


def versions() -> dict[str, str]:
    """Return the versions that the driver and the machines must have in common."""
    found = {"bangbench": __version__, "Python": ".".join(platform.python_version_tuple()[:2])}
    for name in _COMPARED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def obstacles(parcel: Parcel) -> str:
    """Return why a job cannot be done on this machine, empty where it can."""
    here, own = platform.node(), versions()
    wanted = parcel.versions
    different = [f"{name} {own[name]} instead of {wanted[name]}" for name in wanted if own[name] != wanted[name]]
    if different:
        return f"{here} has {', '.join(different)}; install the same versions on all machines"
    for folder in (parcel.folder, parcel.directory):
        if not folder.is_dir():
            return f"{here} does not see {folder}; choose a --root, and work in a folder, that all machines share"
    return ""


def perform_there(parcel: Parcel) -> Message:
    """Do a job that has travelled to this machine; return its end."""
    reason = obstacles(parcel)
    if reason:
        return Message(parcel.number, ended=True, error=BenchError(reason))
    os.environ.update(parcel.environment)
    os.chdir(parcel.directory)
    sys.path += [place for place in parcel.path if place not in sys.path]
    job: Job = pickle.loads(parcel.job)
    letters = Letters(parcel.folder)
    letters.begin(parcel.number, job.label)
    return perform(parcel.number, job, letters.tell)


class Letters:
    """The messages of jobs as lines of JSON in a folder, one file a job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[int, int] = {}

    def begin(self, number: int, label: str) -> None:
        """Say that a process begins with a job where it is not the first: another was lost."""
        if self._path(number).exists():
            self._append(number, {})  # ends a line that a lost process may not have
            self.tell(Message(number, note=f"{label}: begun again on {platform.node()}, the process before is lost"))
        else:
            self._append(number, {})

    def tell(self, message: Message) -> None:
        """Write a message that is not the end of a job."""
        self._append(message.job, {"fraction": message.fraction, "note": message.note})

    def read(self, number: int) -> list[Message]:
        """Return the messages of a job that came since the last look."""
        try:
            with self._path(number).open("rb") as stream:
                stream.seek(self._read.get(number, 0))
                text = stream.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read[number] = self._read.get(number, 0) + len(whole)
        return [Message(number, *told) for line in whole.splitlines() if (told := _told(line)) is not None]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.jsonl"

    def _append(self, number: int, value: dict[str, Any]) -> None:
        path = self._path(number)
        with write_errors_explained(path), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(value) + "\n")


def _told(line: bytes) -> tuple[float | None, str | None] | None:
    """Return fraction and note in a line; None for one that tells nothing, or was not written to its end."""
    try:
        told = json.loads(line)
        return told["fraction"], told["note"]
    except (ValueError, KeyError, TypeError):
        return None


class RemoteExecutor:
    """Base of executors on other machines: keeps at most `at_once` jobs submitted (None: all).

    A subclass begins a job, tells which have ended, and stops the others.
    """

    local = False

    def __init__(self, root: Path, at_once: int | None) -> None:
        self.root, self._at_once = root.resolve(), at_once
        self._folder: Path | None = None
        self._waiting: deque[tuple[int, Job]] = deque()
        self._heard: deque[Message] = deque()
        self._handles: dict[int, Any] = {}
        self._labels: list[str] = []

    def begin(self, parcels: Sequence[Parcel]) -> Sequence[Any]:
        """Begin jobs; return what tells each of them apart."""
        raise NotImplementedError

    def ended(self, handles: dict[int, Any]) -> list[Message]:
        """Return the ends of the jobs that have ended, waiting for one at most about half a second."""
        raise NotImplementedError

    def stop(self, handles: Sequence[Any]) -> None:
        """End jobs that still run, and their processes."""
        raise NotImplementedError

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin a batch."""
        self._folder = self.root / JOBS / uuid.uuid4().hex[:12]
        with write_errors_explained(self._folder):
            self._folder.mkdir(parents=True)
        self._letters = Letters(self._folder)
        self._labels = [job.label for job in jobs]
        self._waiting = deque(enumerate(jobs))
        self._begin_some()

    def next_message(self) -> Message | None:
        """Return the next message; before a job's end come the lines that it said."""
        if not self._heard:
            ends = self.ended(self._handles)
            for number in self._handles:
                self._heard.extend(self._letters.read(number))
            for end in ends:
                del self._handles[end.job]
            self._heard.extend(ends)
            self._begin_some()
        return self._heard.popleft() if self._heard else None

    def cancel(self) -> None:
        """End the jobs that still run, and begin no others."""
        self._waiting.clear()
        self._heard.clear()
        self.stop(list(self._handles.values()))
        self._handles.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def label(self, number: int) -> str:
        """Return what a job is called."""
        return self._labels[number]

    def _begin_some(self) -> None:
        free = len(self._waiting) if self._at_once is None else self._at_once - len(self._handles)
        some = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        if some and self._folder is not None:
            parcels = [pack(number, job, self._folder) for number, job in some]
            handles = self.begin(parcels)
            self._handles.update(zip((number for number, _ in some), handles, strict=True))
