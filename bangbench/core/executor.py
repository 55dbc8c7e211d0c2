"""One way to run independent jobs: submit them, hear how far they are, cancel them. Where they run is the executor's.

A job is a module's own function with an argument that can be pickled. It keeps what it finds on disk, and goes on from
there when it is run again: only names, paths and settings travel, never arrays of images.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from bangbench.core.errors import BenchError
from bangbench.core.progress import Progress

#: Units of the whole bar that belong to one job.
PER_JOB = 1000

_SECONDS_BETWEEN_MESSAGES = 0.5


class Needs(NamedTuple):
    """What a job needs to run: processor cores, memory (GiB; None: unknown), cards or a part of one."""

    cores: int = 1
    memory: float | None = None
    gpus: float = 0.0


class Job(NamedTuple):
    """``function(argument, progress)``, of which `stretches` are announced by `progress.start`.

    first: how long the first stretch takes, in units of one of the others, which only the bar depends on;
    announced: whether its end is worth a line.
    """

    label: str
    function: Callable[[Any, Progress], Any]
    argument: Any
    stretches: int = 1
    first: float = 1.0
    announced: bool = True

    def fraction(self, stretch: int, part: float) -> float:
        """Return how much of the job is done when `part` of a stretch (counted from 0) is, both from 0 to 1."""
        before = self.first + stretch - 1 if stretch else 0.0
        length = 1.0 if stretch else self.first
        return min(1.0, (before + length * part) / (self.first + self.stretches - 1))


class Message(NamedTuple):
    """What is heard of a job, by its number: the fraction done, a line to say, or its end with a result or an error.

    trace: the error's traceback as text, since none survives the way to another process.
    """

    job: int
    fraction: float | None = None
    note: str | None = None
    ended: bool = False
    result: Any = None
    error: BenchError | None = None
    trace: str = ""


class RemoteError(Exception):
    """The cause of an error raised in a worker: where it happened there."""


class Executor(Protocol):
    """Runs jobs somewhere. One batch at a time: the jobs of a `submit` are numbered from 0.

    local: whether they run on this machine, where one job alone is as well done in this process.
    """

    local: bool

    @property
    def slots(self) -> int:
        """Return how many jobs run at once, as far as that is known."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin a batch; returns at once."""

    def next_message(self) -> Message | None:
        """Return the next message, or None where there was none within about a second.

        The end of every job is told once, that of one whose process died as an error.
        """

    def cancel(self) -> None:
        """End the jobs that still run, and begin no others; returns when they are gone or about to be."""


_chosen: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def using(executor: Executor | None) -> Iterator[None]:
    """Let everything inside the block that is shared among processes run in `executor` (None: on this machine)."""
    token = _chosen.set(executor)
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen_executor() -> Executor | None:
    """Return the executor of the innermost `using`."""
    return _chosen.get()


def run_jobs(jobs: Sequence[Job], executor: Executor, label: str, progress: Progress) -> list[Any]:
    """Return the jobs' results in order; the first error cancels the others and is raised.

    Every job must be able to go on from what it left when it was ended.
    """
    results: dict[int, Any] = {}
    fractions = [0.0] * len(jobs)
    progress.start(label, PER_JOB * len(jobs), unit="")
    try:
        for message in messages_of(jobs, executor):
            _show(message, fractions, jobs, progress)
            if message.ended:
                results[message.job] = message.result
    finally:
        progress.finish()
    return [results[number] for number in range(len(jobs))]


def messages_of(jobs: Sequence[Job], executor: Executor) -> Iterator[Message]:
    """Submit jobs and yield what is heard of them, until all have ended or one with an error, which is raised.

    However that comes about, the others are cancelled.
    """
    left = len(jobs)
    try:
        executor.submit(jobs)
        while left:
            message = executor.next_message()
            if message is None:
                continue
            if message.error is not None:
                raise message.error from RemoteError(f"in the worker:\n{message.trace}")
            left -= message.ended
            yield message
    finally:
        executor.cancel()


def _show(message: Message, fractions: list[float], jobs: Sequence[Job], progress: Progress) -> None:
    if message.note is not None:
        progress.note(message.note)
    fraction = 1.0 if message.ended else message.fraction
    if fraction is not None:
        before = int(PER_JOB * fractions[message.job])
        fractions[message.job] = max(fraction, fractions[message.job])
        progress.advance(int(PER_JOB * fractions[message.job]) - before)
    if message.ended and jobs[message.job].announced:
        progress.note(f"{jobs[message.job].label}: done")


def perform(number: int, job: Job, tell: Callable[[Message], None]) -> Message:
    """Do a job in this process, telling how far it is; return its end."""
    try:
        result = job.function(job.argument, _Report(number, job, tell))
        return Message(number, ended=True, result=result)
    except Exception as error:
        # an error of any other type might need a module or arguments that the parent lacks
        told = error if isinstance(error, BenchError) else BenchError(_unexpected(job, error))
        return Message(number, ended=True, error=told, trace=traceback.format_exc())


def _unexpected(job: Job, error: Exception) -> str:
    return f"{job.label}: unexpected {type(error).__name__}: {error}"


class _Report:
    """The `Progress` of a job: tells now and then how far it is."""

    def __init__(self, number: int, job: Job, tell: Callable[[Message], None]) -> None:
        self._number, self._job, self._tell = number, job, tell
        self._stretch = -1
        self._total = self._done = 0
        self._next = 0.0

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        """Begin the next stretch."""
        self._stretch += 1
        self._total, self._done = total, done

    def advance(self, count: int = 1) -> None:
        """Count, and report if the last report is some time ago."""
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS_BETWEEN_MESSAGES
            fraction = self._job.fraction(self._stretch, self._done / max(1, self._total))
            self._tell(Message(self._number, fraction=fraction))

    def note(self, text: str) -> None:
        """Pass a line on."""
        self._tell(Message(self._number, note=text))

    def finish(self) -> None:
        """Nothing to do: the next `start` counts the stretch."""
