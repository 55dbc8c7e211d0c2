"""Alternating runs of two ways to do the same, and the ratio of their times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Work = Callable[[], object]


class Comparison(NamedTuple):
    """Seconds of both and the ratio peer / bangbench: median, smallest and largest over alternating runs."""

    operation: str
    peer: str
    seconds: float
    peer_seconds: float
    ratio: float
    smallest: float
    largest: float


def compare(operation: str, work: Work, peer: str, peer_work: Work, runs: int = 7) -> Comparison:
    """Time both `runs` times in turn, after one run each to warm up."""
    work()
    peer_work()
    pairs = [(_seconds(work), _seconds(peer_work)) for _ in range(runs)]
    ratios = [other / own for own, other in pairs]
    return Comparison(
        operation,
        peer,
        statistics.median(own for own, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
    )


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
