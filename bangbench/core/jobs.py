"""Independent pieces of long work in processes of their own, ended at once when the work is interrupted."""

from __future__ import annotations

import multiprocessing
import queue
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from bangbench.core.errors import BenchError
from bangbench.core.progress import Progress
from bangbench.core.workers import interrupts_held, prepare_worker

#: A job's share of the whole bar.
SHARE = 1000

_SECONDS_BETWEEN_MESSAGES = 0.5


class Job(NamedTuple):
    """``function(argument, progress)``, a module's own function, of which `stretches` are announced by `start`.

    first: how long the first stretch takes, in units of one of the others, which only the bar depends on;
    announced: whether its end is worth a line.
    """

    label: str
    function: Callable[[Any, Progress], Any]
    argument: Any
    stretches: int
    first: float = 1.0
    announced: bool = True

    def share(self, stretch: int, part: float) -> float:
        """Return how much of the job is done when `part` of a stretch (counted from 0) is, both from 0 to 1."""
        before = self.first + stretch - 1 if stretch else 0.0
        length = 1.0 if stretch else self.first
        return min(1.0, (before + length * part) / (self.first + self.stretches - 1))


class _Message(NamedTuple):
    """What a worker tells: `share` done of its job, a line to say, its result, or the error that ended it.

    trace: the error's traceback as text, since none survives the way to another process.
    """

    job: int
    share: float | None = None
    note: str | None = None
    result: Any = None
    error: BenchError | None = None
    trace: str = ""
    ended: bool = False


class RemoteError(Exception):
    """The cause of an error raised in a worker: where it happened there."""


def run_jobs(jobs: Sequence[Job], at_once: int, label: str, progress: Progress) -> list[Any]:
    """Return the jobs' results in order, computed `at_once` at a time; the first error ends the others and is raised.

    Every job must be able to go on from what it left when it was ended.
    """
    context = multiprocessing.get_context("spawn")
    messages: multiprocessing.Queue[_Message] = context.Queue()
    results: dict[int, Any] = {}
    running: dict[int, BaseProcess] = {}
    shares = dict.fromkeys(range(len(jobs)), 0.0)
    progress.start(label, SHARE * len(jobs), unit="")
    try:
        while len(results) < len(jobs):
            started = len(results) + len(running)
            if started < len(jobs) and len(running) < at_once:
                running[started] = _start(context, messages, started, jobs[started])
                continue
            message = _next(messages, running, jobs)
            if message is None:
                continue
            _show(message, shares, jobs, progress)
            if message.error is not None:
                raise message.error from RemoteError(f"in the worker:\n{message.trace}")
            if message.ended:
                results[message.job] = message.result
                running.pop(message.job).join()
    finally:
        _end(running.values())
        progress.finish()
    return [results[number] for number in range(len(jobs))]


def _start(context: Any, messages: Any, number: int, job: Job) -> BaseProcess:
    process: BaseProcess = context.Process(target=_work, args=(number, job, messages), daemon=False)
    with interrupts_held():
        process.start()
    return process


def _next(messages: Any, running: dict[int, BaseProcess], jobs: Sequence[Job]) -> _Message | None:
    """Return the next message, or None where there is none yet; a worker that is gone raises `BenchError`."""
    for number, process in running.items():
        # a worker that sent its result or its error ends with exit code 0
        if process.exitcode:
            raise _death(jobs[number], process)
    try:
        message: _Message = messages.get(timeout=1.0)
        return message
    except queue.Empty:
        for number, process in running.items():
            if process.exitcode is not None and messages.empty():
                raise _death(jobs[number], process) from None
        return None


def _death(job: Job, process: BaseProcess) -> BenchError:
    return BenchError(
        f"the process working on {job.label} died (exit code {process.exitcode}; out of memory or killed?); "
        "run the command again to go on, with fewer processes (--jobs or --workers) to need less memory"
    )


def _show(message: _Message, shares: dict[int, float], jobs: Sequence[Job], progress: Progress) -> None:
    if message.note is not None:
        progress.note(message.note)
    share = 1.0 if message.ended else message.share
    if share is not None:
        before = int(SHARE * shares[message.job])
        shares[message.job] = max(share, shares[message.job])
        progress.advance(int(SHARE * shares[message.job]) - before)
    if message.ended and jobs[message.job].announced:
        progress.note(f"{jobs[message.job].label}: done")


def _end(processes: Any) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()


def _work(number: int, job: Job, messages: Any) -> None:
    prepare_worker()
    try:
        result = job.function(job.argument, _Report(number, job, messages))
        messages.put(_Message(number, result=result, ended=True))
    except Exception as error:
        # an error of any other type might need a module or arguments that the parent lacks
        told = error if isinstance(error, BenchError) else BenchError(_unexpected(job, error))
        messages.put(_Message(number, error=told, trace=traceback.format_exc()))


def _unexpected(job: Job, error: Exception) -> str:
    return f"{job.label}: unexpected {type(error).__name__}: {error}"


class _Report:
    """The `Progress` of a worker: tells the parent now and then how far it is."""

    def __init__(self, number: int, job: Job, messages: Any) -> None:
        self._number, self._job, self._messages = number, job, messages
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
            share = self._job.share(self._stretch, self._done / max(1, self._total))
            self._messages.put(_Message(self._number, share=share))

    def note(self, text: str) -> None:
        """Pass a line on."""
        self._messages.put(_Message(self._number, note=text))

    def finish(self) -> None:
        """Nothing to do: the next `start` counts the stretch."""
