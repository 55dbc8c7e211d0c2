"""The bar on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from bangbench.cli.progress import Bar


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr("bangbench.cli.progress.sys", SimpleNamespace(stderr=stream))
    return stream


def test_a_terminal_shows_a_bar_with_counts_time_left_and_rate(terminal: Terminal) -> None:
    bar = Bar()
    bar.start("R0 fgs", 100, unit="image")
    bar.advance(40)
    bar.finish()
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("R0 fgs:  40%|")
    assert "| 40/100 [00:00<00:" in last
    assert last.rstrip().endswith(" image/s]")


def test_what_an_earlier_run_finished_counts_as_done(terminal: Terminal) -> None:
    bar = Bar()
    bar.start("R0", 10, done=5)
    assert "50%|" in terminal.getvalue()
    bar.finish()


def test_work_measured_in_shares_shows_no_numbers_that_mean_nothing(terminal: Terminal) -> None:
    bar = Bar()
    bar.start("table1", 8000, unit="")
    bar.advance(4000)
    bar.finish()
    last = terminal.getvalue().split("\r")[-1]
    assert "table1:  50%|" in last
    assert "4000" not in last
    assert "/s" not in last


def test_a_note_stands_on_a_line_of_its_own(terminal: Terminal) -> None:
    bar = Bar()
    bar.start("R0", 10)
    bar.note("going on from iteration 5")
    bar.finish()
    assert "\rgoing on from iteration 5\n" in terminal.getvalue()


def test_without_a_terminal_lines_come_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("bangbench.cli.progress.time", SimpleNamespace(monotonic=lambda: now))
    bar = Bar()
    bar.start("R0", 100)
    for _ in range(4):
        now += 6.0
        bar.advance(10)
    bar.note("half way")
    bar.finish()
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["R0: 30 %", "half way", "R0: 40 %"]
    assert "30 of 100" in lines[0]
    assert "\r" not in captured.err


def test_nothing_is_drawn_before_work_starts_or_after_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar()
    bar.advance()
    bar.finish()
    assert capsys.readouterr().err == ""
