"""Alternating runs of two ways to do the same, the ratio of their times, and the limit that it is held to."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

Work = Callable[[], object]
Side = Literal["at least", "at most"]


class Limit(NamedTuple):
    """What a ratio must be: at least or at most `value`."""

    side: Side
    value: float

    def met_by(self, ratio: float) -> bool:
        """Return whether `ratio` lies on the right side, the limit itself included."""
        return ratio >= self.value if self.side == "at least" else ratio <= self.value


class Comparison(NamedTuple):
    """One row: median seconds of both, and the median, smallest and largest ratio over alternating runs.

    inverted: the ratio is bangbench / peer, a price; otherwise it is peer / bangbench, how many times faster.
    seconds and peer_seconds are None where something other than time is counted.
    """

    operation: str
    peer: str
    seconds: float | None
    peer_seconds: float | None
    ratio: float
    smallest: float
    largest: float
    runs: int = 0
    limit: Limit | None = None
    inverted: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Return whether the median keeps the limit; None where there is none."""
        return None if self.limit is None else self.limit.met_by(self.ratio)


class LeftOut(NamedTuple):
    """A comparison that cannot be made here."""

    operation: str
    reason: str


Row = Comparison | LeftOut


def compare(
    operation: str,
    work: Work,
    peer: str,
    peer_work: Work,
    runs: int = 7,
    at_least: float | None = None,
    at_most: float | None = None,
    note: str = "",
) -> Comparison:
    """Time both `runs` times in turn, after one run each to warm up.

    The ratio is peer / bangbench; with `at_most` it is bangbench / peer: what bangbench costs beside the peer.
    """
    work()
    peer_work()
    pairs = [(_seconds(work), _seconds(peer_work)) for _ in range(runs)]
    inverted = at_most is not None
    ratios = [own / other if inverted else other / own for own, other in pairs]
    return Comparison(
        operation,
        peer,
        statistics.median(own for own, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        runs,
        _limit(at_least, at_most),
        inverted,
        note,
    )


def counted(operation: str, own: int, peer: str, necessary: int, at_most: float) -> Comparison:
    """Return the row of something counted, not timed: own / necessary, at most so much."""
    ratio = own / necessary
    limit = Limit("at most", at_most)
    return Comparison(operation, peer, None, None, ratio, ratio, ratio, 1, limit, inverted=True)


def with_peer(module: str, operation: str, rows: Callable[[], list[Comparison]]) -> list[Row]:
    """Return the rows of a peer, or one that says that it is left out because `module` cannot be imported."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return [LeftOut(operation, f"{module} cannot be imported ({error}); pip install 'bangbench[peers]'")]
    return list(rows())


def fastest(works: Mapping[str, Work], tries: int = 2) -> tuple[str, Work]:
    """Return the name and the work that took the least time in `tries` runs each: a peer's best settings."""
    for work in works.values():
        work()
    seconds = {name: min(_seconds(work) for _ in range(tries)) for name, work in works.items()}
    name = min(seconds, key=seconds.__getitem__)
    return name, works[name]


def _limit(at_least: float | None, at_most: float | None) -> Limit | None:
    if at_most is not None:
        return Limit("at most", at_most)
    return None if at_least is None else Limit("at least", at_least)


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
