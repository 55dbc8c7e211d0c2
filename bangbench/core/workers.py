"""Worker processes that start clean, keep quiet when interrupted, and never outlive their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from bangbench.core.errors import BenchError

Result = TypeVar("Result")


def start_workers(count: int) -> ProcessPoolExecutor:
    """Return a pool of up to `count` worker processes, each started when first needed.

    They are spawned, not forked: a fork copies the locks of torch's threads in whatever state they are.
    """
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), prepare_worker)


def run_tasks(
    pool: ProcessPoolExecutor,
    function: Callable[..., Result],
    *arguments: Iterable[object],
    done: Callable[[], None] | None = None,
) -> list[Result]:
    """Return ``map(function, *arguments)`` computed by the pool, in order; `done` is called after each.

    An exception from a task cancels those that have not begun. A worker that dies raises `BenchError`.
    """
    try:
        with interrupts_held():
            results = pool.map(function, *arguments)
        return [_noted(result, done) for result in results]
    except BrokenProcessPool as error:
        raise BenchError(
            "a worker process died (out of memory, killed, or started from a script without "
            "`if __name__ == '__main__':`); free memory or guard the script, or compute with fewer workers"
        ) from error


def _noted(result: Result, done: Callable[[], None] | None) -> Result:
    if done is not None:
        done()
    return result


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Deliver Ctrl-C after the block, and to no process started in it.

    A worker inherits the signal mask, so that an interrupt cannot reach it while it is still importing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker() -> None:
    """Make this process a worker: deaf to Ctrl-C, and gone when its parent is."""
    # The terminal sends Ctrl-C to every process; the parent alone answers it, and shuts the workers down.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this worker when its parent has been killed: it would otherwise wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
