"""Independent jobs in processes of their own: results, errors, death, interruption."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bangbench.core.errors import BenchError, UsageError
from bangbench.core.executor import PER_JOB, Job, Needs, run_jobs
from bangbench.core.executor_local import LocalExecutor
from bangbench.core.progress import Silent

#: What the jobs do. A module of its own, since a worker process imports it by name.
FUNCTIONS = """
import os, signal, time
from pathlib import Path
from bangbench.core.errors import UsageError

def double(argument, progress):
    progress.start("doubling", 10)
    progress.advance(10)
    progress.note(f"doubled {argument}")
    progress.finish()
    return 2 * argument

def wait(argument, progress):
    Path(argument).with_suffix(f".{os.getpid()}").touch()
    time.sleep(60)

def refuse(argument, progress):
    raise UsageError(f"expected something else than {argument}; change it")

def stumble(argument, progress):
    raise KeyError("nothing")

def die(argument, progress):
    if argument:
        while not list(Path(argument).parent.glob("waits.*")):
            time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

def leave(argument, progress):
    raise SystemExit(0)

def cards(argument, progress):
    Path(argument).with_suffix(f".{os.environ['CUDA_VISIBLE_DEVICES']}").touch()
    while len(list(Path(argument).parent.glob("seen.*"))) < 2:
        time.sleep(0.01)
    return os.environ["CUDA_VISIBLE_DEVICES"]

def chatter(argument, progress):
    while True:
        progress.note("busy")
        time.sleep(0.01)
"""


class Seen(Silent):
    """A progress that keeps what it is told."""

    def __init__(self) -> None:
        self.total = self.moved = self.finished = 0
        self.notes: list[str] = []

    def start(self, label: str, total: int, done: int = 0, unit: str = "it") -> None:
        self.total = total

    def advance(self, count: int = 1) -> None:
        self.moved += count

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of jobs, which worker processes find on the path as well."""
    (tmp_path / "job_functions.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "job_functions", raising=False)
    return importlib.import_module("job_functions")


@pytest.fixture
def waits(tmp_path: Path) -> Iterator[Path]:
    """Return the argument of a job that waits; afterwards no process that waited may be left."""
    yield tmp_path / "waits.txt"
    for marker in tmp_path.glob("waits.*"):
        assert has_ended(int(marker.suffix[1:])), "a worker process outlived the jobs"


def has_ended(process: int) -> bool:
    """Return whether a process is gone, waiting a little for it."""
    for _ in range(200):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def line_of(text: str) -> int:
    """Return the number of the line of `FUNCTIONS` that begins with `text`."""
    return next(number for number, line in enumerate(FUNCTIONS.splitlines(), 1) if line.startswith(text))


def job(function: Any, argument: Any = None) -> Job:
    return Job(f"job {argument}", function, argument)


def test_results_come_in_order_and_the_bar_reaches_its_end(functions: ModuleType) -> None:
    seen = Seen()
    assert run_jobs([job(functions.double, number) for number in range(3)], LocalExecutor(2), "all", seen) == [0, 2, 4]
    assert seen.moved == seen.total == 3 * PER_JOB
    assert seen.finished == 1
    assert {"doubled 0", "job 0: done", "doubled 2", "job 2: done"} <= set(seen.notes)


def test_an_error_of_a_job_is_raised_as_it_is_and_the_others_end(functions: ModuleType, waits: Path) -> None:
    jobs = [job(functions.wait, waits), job(functions.refuse, 7), job(functions.double, 1)]
    with pytest.raises(UsageError, match=r"^expected something else than 7; change it$") as caught:
        run_jobs(jobs, LocalExecutor(2), "all", Silent())
    assert caught.value.exit_status == 2


def test_an_unexpected_error_names_the_job(functions: ModuleType) -> None:
    with pytest.raises(BenchError, match=r"^job 1: unexpected KeyError: 'nothing'$"):
        run_jobs([job(functions.stumble, 1), job(functions.double, 1)], LocalExecutor(1), "all", Silent())


@pytest.mark.parametrize("name", ["stumble", "refuse"])
def test_an_error_brings_the_worker_s_traceback(functions: ModuleType, name: str) -> None:
    with pytest.raises(BenchError) as caught:
        run_jobs([job(getattr(functions, name), 1)], LocalExecutor(1), "all", Silent())
    shown = "".join(traceback.format_exception(caught.value))
    assert f'job_functions.py", line {line_of(f"def {name}") + 1}, in {name}' in shown


def test_a_killed_worker_is_noticed_and_the_others_end(functions: ModuleType, waits: Path) -> None:
    jobs = [job(functions.wait, waits), job(functions.die, waits)]
    with pytest.raises(BenchError, match=r"the process working on job .* died \(exit code -9; .*run the command again"):
        run_jobs(jobs, LocalExecutor(2), "all", Silent())
    assert list(waits.parent.glob("waits.*")) != []


def test_a_killed_worker_is_noticed_while_another_keeps_talking(functions: ModuleType) -> None:
    with pytest.raises(BenchError, match="died"):
        run_jobs([job(functions.chatter), job(functions.die)], LocalExecutor(2), "all", Silent())


def test_a_worker_that_leaves_without_a_word_is_noticed(functions: ModuleType) -> None:
    with pytest.raises(BenchError, match=r"the process working on job None died \(exit code 0;"):
        run_jobs([job(functions.leave)], LocalExecutor(1), "all", Silent())


def test_an_interruption_ends_the_workers_at_once(functions: ModuleType, waits: Path) -> None:
    def interrupt() -> None:
        while not list(waits.parent.glob("waits.*")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    seen = Seen()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(functions.wait, waits)], LocalExecutor(1), "all", seen)
    assert seen.finished == 1


def test_an_executor_takes_one_batch_after_another(functions: ModuleType) -> None:
    executor = LocalExecutor(2)
    assert run_jobs([job(functions.double, 1)], executor, "all", Silent()) == [2]
    with pytest.raises(UsageError):
        run_jobs([job(functions.refuse), job(functions.chatter)], executor, "all", Silent())
    assert run_jobs([job(functions.double, number) for number in range(3)], executor, "all", Silent()) == [0, 2, 4]


def test_jobs_that_need_a_card_see_one_each(functions: ModuleType, tmp_path: Path) -> None:
    jobs = [job(functions.cards, tmp_path / "seen.txt")] * 2
    executor = LocalExecutor(2, Needs(gpus=1.0), cards=("4", "7"))
    assert sorted(run_jobs(jobs, executor, "all", Silent())) == ["4", "7"]


@pytest.mark.parametrize(
    ("gpus", "cards"),
    [
        (0.0, [None] * 4),
        (0.5, ["a", "a", "b", "b"]),
        (0.1, ["a", "a", "a", "a"]),
        (1 / 3, ["a", "a", "a", "b"]),
        (1.0, ["a", "b", "c", "d"]),
        (2.0, ["a,b", "c,d"]),
    ],
)
def test_a_card_is_shared_by_as_many_jobs_as_it_has_parts(gpus: float, cards: list[str | None]) -> None:
    executor = LocalExecutor(len(cards), Needs(gpus=gpus), cards=("a", "b", "c", "d"))
    assert [executor.card(slot) for slot in range(len(cards))] == cards


def test_the_first_stretch_of_a_job_may_count_for_more() -> None:
    even, heavy = Job("a", print, None, stretches=4), Job("a", print, None, stretches=4, first=3.0)
    assert [even.fraction(stretch, 0.5) for stretch in range(4)] == [0.125, 0.375, 0.625, 0.875]
    assert [heavy.fraction(0, part) for part in (0.0, 0.5, 1.0)] == [0.0, 0.25, 0.5]
    assert heavy.fraction(1, 0.0) == 0.5
    assert heavy.fraction(3, 1.0) == heavy.fraction(9, 1.0) == 1.0
