"""Whether work is done in this process or in several, and what each of those is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bangbench.core import shares
from bangbench.core.errors import BenchError
from bangbench.core.executor import Job, Message, perform, using
from bangbench.core.progress import SILENT, Progress
from bangbench.core.shares import Share, Work, compute_share, processes_for, share_out


class OneByOne:
    """An executor that does one job after the other, in this process."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.given: list[tuple[int, ...]] = []

    def submit(self, jobs: Sequence[Job]) -> None:
        self.given = [job.argument.pieces for job in jobs]
        self.left = list(enumerate(jobs))

    def next_message(self) -> Message:
        return perform(*self.left.pop(0), lambda message: None)

    def cancel(self) -> None:
        pass


@contextmanager
def opened(folder: Path) -> Iterator[Work]:
    """Open work that writes a file for every piece."""

    def compute(pieces: Sequence[int], progress: Progress) -> None:
        for piece in pieces:
            (folder / str(piece)).touch(exist_ok=False)

    yield Work("the key", compute)


@pytest.mark.parametrize(
    ("work", "asked", "device", "processes"),
    [
        (10, None, "cpu", 1),  # not more than enough
        (11, None, "cpu", 8),
        (11, 3, "cpu", 3),
        (11, 99, "cpu", 20),  # one for every piece
        (11, None, "cuda", 1),
        (11, 4, "cuda", 4),
    ],
)
def test_processes_are_for_work_that_is_worth_them(
    monkeypatch: pytest.MonkeyPatch, work: int, asked: int | None, device: str, processes: int
) -> None:
    monkeypatch.setattr(shares, "available_cores", lambda: 8)
    assert processes_for(20, work, 10, asked, device) == processes


def test_nothing_left_needs_no_other_process() -> None:
    assert processes_for(0, 11, 10, None, "cpu") == 1


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_chosen_executor_says_how_many_are_usual(device: str) -> None:
    with using(OneByOne(5)):
        assert processes_for(20, 11, 10, None, device) == 5
        assert processes_for(20, 11, 10, 2, device) == 2


def test_every_piece_is_computed_once_and_neighbours_apart(tmp_path: Path) -> None:
    executor = OneByOne(2)
    with using(executor):
        share_out(Share(opened, tmp_path, "the key", "R0", (3, 4, 5, 9)), 3, "R0 audit", SILENT)
    assert executor.given == [(3, 9), (4,), (5,)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4", "5", "9"]


def test_a_share_of_something_else_is_refused_before_it_is_computed(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"^R0 or its data was changed meanwhile; run the command again$"):
        compute_share(Share(opened, tmp_path, "another key", "R0", (1,)), SILENT)
    assert list(tmp_path.iterdir()) == []
