"""The notebooks run from a clean kernel, and what is committed of them is whole, small and of no machine's own."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_three():
    assert [path.name[:3] for path in NOTEBOOKS] == ["01-", "02-", "03-"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    committed = nbformat.read(path, as_version=4)
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        cell.outputs = []
    NotebookClient(book, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell, before in zip(book.cells, committed.cells, strict=True):
        assert shapes_of(cell) == shapes_of(before)


def shapes_of(cell: nbformat.NotebookNode) -> list[object]:
    """Return the kinds of a code cell's outputs: printed lines in one, in however many pieces the kernel sent them.

    What a kernel without widgets warns of is left out.
    """
    outputs = cell.get("outputs", [])
    kinds = [sorted(out.get("data", {"text": 0})) for out in outputs if out.get("name") != "stderr"]
    return [kind for kind, _ in itertools.groupby(kinds)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed_has_its_outputs_and_nothing_of_a_machine(path):
    content = path.read_text(encoding="utf-8")
    assert len(content) < 150_000
    assert not re.search(r"/(home|work|tmp|root|Users|usr)/", content)
    cells = [cell for cell in nbformat.reads(content, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert cells[-1].outputs
    assert not any(out.output_type == "error" or out.get("name") == "stderr" for cell in cells for out in cell.outputs)


def test_the_first_shows_the_answer_and_the_second_verdict():
    first = (FOLDER / "01-audit-your-model.ipynb").read_text(encoding="utf-8")
    assert re.search(r"Sequential: robust accuracy [\d.]+ % \[[\d.]+, [\d.]+\] within 25/255 .*can be trusted", first)
    assert "Hidden: robust accuracy" in first
    assert "fgs-masked" in first
