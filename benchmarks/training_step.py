"""A BANG step against a regular step of the same engine: batch, forward, backward, update, counting."""

from __future__ import annotations

import itertools

from bangbench.core.device import available_cores, cpu_threads
from bangbench.data.dataset import Dataset
from bangbench.training.loop import Meter, Run, train_step
from bangbench.training.memory import keep_freed_memory
from benchmarks.compare import Comparison, Work, compare
from benchmarks.inputs import CPU, colour_images, grey_images, training_run

#: A long pause of the machine would decide over a short run; the runs still alternate every quarter second.
_STEPS = {"lenet": 10, "cifar10-quick": 3}
_RUNS = 11
_LIMIT = 1.05


def comparisons() -> list[Comparison]:
    """Compare at the batch sizes of the paper, on one thread and, where there are more cores, on two."""
    keep_freed_memory()
    grey, images = grey_images()
    cases = [("lenet", grey, images), ("cifar10-quick", "random images", colour_images())]
    threads = [1, 2] if available_cores() > 1 else [1]
    return [row for count in threads for row in _on_threads(count, cases)]


def steps_of(run: Run, count: int) -> Work:
    """Return a function that does the next `count` steps of a run."""
    meter, iterations = Meter(CPU), itertools.count()

    def work() -> None:
        for _ in range(count):
            train_step(run, next(iterations), meter)

    return work


def _on_threads(count: int, cases: list[tuple[str, str, Dataset]]) -> list[Comparison]:
    with cpu_threads(count):
        return [_compare(*case, f"{count} thread{'s' if count > 1 else ''}") for case in cases]


def _compare(net: str, name: str, data: Dataset, threads: str) -> Comparison:
    bang, regular = (training_run(net, data, method) for method in ("bang", "regular"))
    count = _STEPS[net]
    return compare(
        f"{count} BANG steps, {net}, batch {bang.batches.size}, {name}, {threads}",
        steps_of(bang, count),
        "regular steps of bangbench",
        steps_of(regular, count),
        _RUNS,
        at_most=_LIMIT,
    )
