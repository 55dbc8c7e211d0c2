"""The executor of this machine: every job in a process of its own, which starts clean and never outlives its parent."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from bangbench.core.errors import BenchError
from bangbench.core.executor import Job, Message, Needs, perform

_CARDS = "CUDA_VISIBLE_DEVICES"


class LocalExecutor:
    """Runs jobs in processes of this machine, `slots` at a time, spread over the cards where they need some.

    cards: identifiers of the CUDA devices to spread over, as CUDA_VISIBLE_DEVICES lists them.
    """

    local = True

    def __init__(self, slots: int, needs: Needs | None = None, cards: Sequence[str] = ()) -> None:
        self.slots = slots
        self._gpus, self._cards = (needs or Needs()).gpus, tuple(cards)
        # spawned, not forked: a fork copies the locks of torch's threads in whatever state they are
        self._context = multiprocessing.get_context("spawn")
        self._jobs: Sequence[Job] = ()
        self._waiting: deque[int] = deque()
        self._running: dict[int, tuple[int, BaseProcess]] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin a batch."""
        self._jobs, self._waiting = jobs, deque(range(len(jobs)))
        self._messages: multiprocessing.Queue[Message] = self._context.Queue()

    def next_message(self) -> Message | None:
        """Start what may run, and return the next message."""
        while self._waiting and len(self._running) < self.slots:
            self._start(self._waiting.popleft())
        dead = next((number for number, (_, process) in self._running.items() if process.exitcode), None)
        if dead is not None:  # a worker that told its end, or its error, has exit code 0
            return self._death(dead)
        try:
            message = self._messages.get(timeout=1.0)
        except queue.Empty:
            gone = (number for number, (_, process) in self._running.items() if process.exitcode is not None)
            silent = next(gone, None)
            return self._death(silent) if silent is not None and self._messages.empty() else None
        if message.ended:
            self._running.pop(message.job)[1].join()
        return message

    def cancel(self) -> None:
        """End the processes that run."""
        self._waiting.clear()
        for _, process in self._running.values():
            process.terminate()
        for _, process in self._running.values():
            process.join()
        self._running.clear()

    def _start(self, number: int) -> None:
        slot = min(set(range(self.slots)) - {slot for slot, _ in self._running.values()})
        arguments = (number, self._jobs[number], self._messages, self.card(slot))
        process: BaseProcess = self._context.Process(target=_work, args=arguments, daemon=False)
        with _interrupts_held():
            process.start()
        self._running[number] = slot, process

    def card(self, slot: int) -> str | None:
        """Return the cards that a job sees which is the `slot`-th of those that run; None: those of this process.

        As many jobs share one card as it has parts.
        """
        if not self._cards or not self._gpus:
            return None
        several = max(1, round(self._gpus))
        first = slot * several if self._gpus >= 1 else slot // int(1 / self._gpus + 1e-9)
        return ",".join(self._cards[(first + place) % len(self._cards)] for place in range(several))

    def _death(self, number: int) -> Message:
        _, process = self._running.pop(number)
        error = BenchError(
            f"the process working on {self._jobs[number].label} died (exit code {process.exitcode}; out of memory, "
            "killed, or started from a script without `if __name__ == '__main__':`?); run the command again to go on, "
            "with fewer processes (--jobs or --workers) to need less memory"
        )
        return Message(number, ended=True, error=error)


@contextmanager
def _interrupts_held() -> Iterator[None]:
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


def _work(number: int, job: Job, messages: Any, card: str | None) -> None:
    # The terminal sends Ctrl-C to every process; the parent alone answers it, and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if card is not None:
        os.environ[_CARDS] = card  # read when CUDA is first used
    messages.put(perform(number, job, messages.put))


def _exit_with_parent() -> None:
    """End this worker when its parent has been killed: it would otherwise work on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
