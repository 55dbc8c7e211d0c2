"""Long work in numbered pieces: in this process, or in how many, and how those are given their shares.

A piece is what a chunk on disk keeps. A share is the pieces that one process computes: it opens models and data for
itself, makes sure that it found the same ones, computes its pieces and writes their chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from bangbench.core.device import available_cores
from bangbench.core.errors import BenchError
from bangbench.core.executor import Job, chosen_executor, run_jobs
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import Progress


class Work(NamedTuple):
    """Opened work: the key of what it computes, and the function that computes the pieces with these numbers."""

    key: str
    compute: Callable[[Sequence[int], Progress], None]


class Share(NamedTuple):
    """The pieces for one process: ``open(opening)`` gives it the work, which must have this key.

    open: a module's own function; opening: what it needs, which is pickled; name: of what is measured.
    """

    open: Callable[[Any], AbstractContextManager[Work]]
    opening: Any
    key: str
    name: str
    pieces: tuple[int, ...]


def processes_for(pieces: int, work: float, enough: float, asked: int | None, device: str) -> int:
    """Return how many processes compute the pieces that are left; 1: this one, without another.

    work: how much is left, in any unit; enough: what is done here, in that unit, while processes, which takes seconds,
    are started; asked: the most that the user wants, None for as many as the machine, or the chosen executor, is good
    for; device: its type: a GPU serves one process unless more are asked for.
    """
    chosen = chosen_executor()
    usual = chosen.slots if chosen is not None else available_cores() if device == "cpu" else 1
    return max(1, min(pieces, asked or usual)) if work > enough else 1


def share_out(whole: Share, processes: int, label: str, progress: Progress) -> None:
    """Compute the pieces of `whole` in so many processes, in the chosen executor or on this machine.

    Neighbours go to different processes: where pieces are in order of length, all have as many of the long ones.
    """
    shares = [whole._replace(pieces=whole.pieces[first::processes]) for first in range(processes)]
    jobs = [Job(label, compute_share, share, announced=False) for share in shares]
    run_jobs(jobs, chosen_executor() or LocalExecutor(processes), label, progress)


def compute_share(share: Share, progress: Progress) -> None:
    """Compute a share in this process; `BenchError` where model or data are others than those it is a share of."""
    with share.open(share.opening) as work:
        if work.key != share.key:
            raise BenchError(f"{share.name} or its data was changed meanwhile; run the command again")
        work.compute(share.pieces, progress)
