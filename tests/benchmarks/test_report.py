"""What `python -m benchmarks` prints and writes."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from bangbench.core.errors import BenchError
from bangbench.core.provenance import collect_provenance
from benchmarks import __main__ as program
from benchmarks.compare import Comparison, LeftOut, Limit
from benchmarks.report import as_json, markdown, terminal_table, write_report

FASTER = Comparison("search", "ART", 0.5, 2.0, 4.0, 3.5, 4.25, 5, Limit("at least", 3.0), note="0 of 9 differ")
DEARER = Comparison("BANG steps", "regular", 0.33, 0.3, 1.1, 1.04, 1.2, 7, Limit("at most", 1.05), inverted=True)
FREE = Comparison("bfloat16", "float32", 1.0, 1.5, 1.5, 1.5, 1.5, 5)
COUNTED = Comparison("forwards", "needed", None, None, 1.01, 1.01, 1.01, 1, Limit("at most", 1.15), inverted=True)
MISSING = LeftOut("BANG step", "opacus cannot be imported")
ROWS = [FASTER, DEARER, FREE, COUNTED, MISSING]
PROVENANCE = collect_provenance("cpu")


def test_the_markdown_table_says_what_it_holds_for_and_which_limits_are_kept():
    lines = markdown(ROWS, PROVENANCE, "2026-01-02T03:04:05+00:00").splitlines()
    assert PROVENANCE.processor in lines[0]
    assert f"{PROVENANCE.cores} cores" in lines[0]
    assert f"torch {PROVENANCE.packages['torch']}" in lines[0]
    assert "2026-01-02T03:04:05+00:00" in lines[0]
    assert lines[4:8] == [
        "| search | 0.500 | ART | 2.000 | 4.00 (3.50-4.25) | at least 3 | yes |",
        "| BANG steps | 0.330 | regular | 0.300 | 1.10 (1.04-1.20) | at most 1.05 | no |",
        "| bfloat16 | 1.000 | float32 | 1.500 | 1.50 (1.50-1.50) |  |  |",
        "| forwards |  | needed |  | 1.01 | at most 1.15 | yes |",
    ]
    assert "- search, ART: 0 of 9 differ" in lines
    assert "- BANG step: left out, opacus cannot be imported" in lines


def test_the_terminal_shows_the_same_cells():
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal_table([FASTER, DEARER], PROVENANCE))
    text = console.export_text()
    for cell in ("4.00 (3.50-4.25)", "at least 3", "1.10 (1.04-1.20)", "at most 1.05", "yes", "no"):
        assert cell in text


def test_numbers_are_written_as_numbers(tmp_path):
    write_report(tmp_path / "out", ROWS, PROVENANCE)
    written = json.loads((tmp_path / "out/benchmarks.json").read_text())
    assert written["provenance"]["command"] == PROVENANCE.command
    assert written["provenance"]["packages"]["torch"] == PROVENANCE.packages["torch"]
    first = written["comparisons"][0]
    assert (first["ratio"], first["smallest"], first["met"], first["runs"]) == (4.0, 3.5, True, 5)
    assert first["limit"] == {"side": "at least", "value": 3.0}
    assert [row["met"] for row in written["comparisons"]] == [True, False, None, True]
    assert written["left_out"] == [{"operation": "BANG step", "reason": "opacus cannot be imported"}]
    assert (tmp_path / "out/benchmarks.md").read_text() == markdown(ROWS, PROVENANCE, written["date"])
    assert written == json.loads(json.dumps(as_json(ROWS, PROVENANCE, written["date"])))


@pytest.fixture
def scripts(monkeypatch):
    """Every script gives one row of its own name; return the names asked for."""
    asked = []

    def found(name: str) -> SimpleNamespace:
        asked.append(name.removeprefix("benchmarks."))
        return SimpleNamespace(comparisons=lambda: [FASTER._replace(operation=name)])

    monkeypatch.setattr(program.importlib, "import_module", found)
    return asked


def test_all_scripts_run_unless_some_are_named(scripts, capsys):
    program.main([])
    assert tuple(scripts) == program.NAMES
    scripts.clear()
    program.main(["--only", "pass_scores", "training_step"])
    assert scripts == ["pass_scores", "training_step"]
    assert "benchmarks.training_step" in capsys.readouterr().out


def test_the_command_is_written_as_it_is_typed(scripts, tmp_path, capsys):
    program.main(["--only", "pass_scores", "--out", str(tmp_path)])
    command = json.loads((tmp_path / "benchmarks.json").read_text())["provenance"]["command"]
    assert command == f"python -m benchmarks --only pass_scores --out {tmp_path}"


def test_an_unknown_name_is_refused_before_anything_runs(scripts, capsys):
    with pytest.raises(SystemExit):
        program.main(["--only", "pass_score"])
    assert "invalid choice: 'pass_score'" in capsys.readouterr().err
    assert not scripts


def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(scripts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="a file stands where a folder is needed"):
        program.main(["--out", str(tmp_path / "file")])
    assert not scripts
