"""Comparisons: the order of the runs, what is computed from their times, and the side of a limit."""

from __future__ import annotations

import sys

import pytest

from benchmarks import compare as module
from benchmarks.compare import Comparison, LeftOut, Limit, compare, counted, fastest, with_peer


class Clock:
    """Stands still but for the work done, whose durations are given; remembers who worked."""

    def __init__(self) -> None:
        self.now, self.worked = 0.0, []

    def work(self, name: str, durations: list[float]):
        left = iter(durations)

        def do() -> None:
            self.worked.append(name)
            self.now += next(left)

        return do


@pytest.fixture
def clock(monkeypatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module.time, "perf_counter", lambda: found.now)
    return found


def test_runs_alternate_after_one_each_to_warm_up(clock):
    compare("o", clock.work("own", [1.0] * 6), "p", clock.work("peer", [1.0] * 6), runs=5)
    assert clock.worked == ["own", "peer"] * 6


def test_median_smallest_and_largest_ratio_come_from_neighbouring_runs(clock):
    own, peer = clock.work("own", [100.0, 1.0, 2.0, 4.0]), clock.work("peer", [500.0, 6.0, 4.0, 16.0])
    row = compare("search", own, "loop", peer, runs=3, at_least=3.0)
    assert (row.operation, row.peer, row.runs) == ("search", "loop", 3)
    assert (row.seconds, row.peer_seconds) == (2.0, 6.0)
    # peer / own of each pair: 6, 2, 4; the runs to warm up do not count
    assert (row.ratio, row.smallest, row.largest) == (4.0, 2.0, 6.0)
    assert not row.inverted
    assert row.met is True


def test_a_ratio_with_an_upper_limit_is_the_price_of_bangbench(clock):
    own, peer = clock.work("own", [1.0, 3.0, 3.0, 9.0]), clock.work("peer", [1.0, 2.0, 3.0, 3.0])
    row = compare("bang", own, "regular", peer, runs=3, at_most=1.05)
    assert (row.ratio, row.smallest, row.largest) == (1.5, 1.0, 3.0)
    assert row.inverted
    assert row.met is False


def test_without_a_limit_nothing_is_judged(clock):
    row = compare("o", clock.work("own", [1.0] * 2), "p", clock.work("peer", [1.0] * 2), runs=1)
    assert row.limit is None
    assert row.met is None


@pytest.mark.parametrize(
    ("side", "ratio", "met"),
    [
        ("at least", 3.0, True),
        ("at least", 2.999, False),
        ("at least", 5.0, True),
        ("at most", 1.05, True),
        ("at most", 1.051, False),
        ("at most", 0.5, True),
    ],
)
def test_a_limit_is_kept_on_its_own_side(side, ratio, met):
    assert Limit(side, 3.0 if side == "at least" else 1.05).met_by(ratio) is met


def test_what_is_counted_has_no_seconds():
    row = counted("forwards", 115, "necessary", 100, at_most=1.15)
    assert (row.seconds, row.peer_seconds, row.ratio, row.met) == (None, None, 1.15, True)
    assert counted("forwards", 116, "necessary", 100, at_most=1.15).met is False


def test_a_peers_best_settings_are_those_of_its_fastest_run(clock):
    works = {"slow": clock.work("slow", [0.0, 5.0, 4.0]), "fast": clock.work("fast", [9.0, 6.0, 3.0])}
    name, work = fastest(works)
    assert name == "fast"
    assert work is works["fast"]


def test_a_peer_that_cannot_be_imported_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    (row,) = with_peer("opacus", "a step", lambda: pytest.fail("asked for rows of a peer that is not there"))
    assert isinstance(row, LeftOut)
    assert row.operation == "a step"
    assert "opacus cannot be imported" in row.reason
    assert "pip install 'bangbench[peers]'" in row.reason


def test_a_peer_that_is_there_gives_its_rows():
    row = Comparison("o", "p", 1.0, 2.0, 2.0, 2.0, 2.0)
    assert with_peer("json", "o", lambda: [row]) == [row]
