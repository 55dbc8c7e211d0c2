"""What `bangbench status` tells of a root: done, running, failed, interrupted, left."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bangbench.cli.main import app
from bangbench.core.errors import BenchError
from bangbench.store.plans import WantedModel, keep_failure, keep_plan
from bangbench.store.status import Work, look

LOCKING = """
import sys, time
from pathlib import Path
from bangbench.core.locks import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def root(study: Any, tmp_path: Path) -> Path:
    """Return a copy of a root in which everything is done."""
    return Path(shutil.copytree(study.root("local"), tmp_path / "root"))


@pytest.fixture
def writer(root: Path) -> Iterator[int]:
    """Return a process that works on the first model."""
    folder = root / "models/small/R"
    process = subprocess.Popen([sys.executable, "-c", LOCKING, folder], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process.pid
        process.kill()


def works(root: Path) -> dict[tuple[str, str], Work]:
    """Return the work by model and kind."""
    return {(work.name, work.what): work for work in look(root)}


def unfinish(path: Path) -> None:
    """Make a record one that was begun and not finished."""
    path.write_text(path.read_text().replace('"status": "done"', '"status": "started"'))


def test_what_is_done_is_done(root: Path) -> None:
    names = ["small/R", "small/R-s1", "small/R-s2"]
    done = {(name, what) for name in names for what in ("training", "fgs")}
    assert set(works(root)) == done | {("small/R-vs-R-s1", "noise")}
    assert {work.state for work in look(root)} == {"done"}


def test_a_training_that_nobody_goes_on_with_was_interrupted(root: Path) -> None:
    unfinish(root / "models/small/R/model.json")
    (root / "models/small/R/stages/000060.safetensors").unlink()
    work = works(root)["small/R", "training"]
    assert (work.state, work.holder, work.fraction) == ("interrupted", None, pytest.approx(2 / 3))


def test_one_that_is_worked_on_says_where_and_since_when(root: Path, writer: int) -> None:
    unfinish(root / "models/small/R/model.json")
    work = works(root)["small/R", "training"]
    assert work.state == "running"
    assert work.holder is not None
    assert (work.holder.pid, work.holder.host) == (writer, platform.node())
    assert work.holder.since[:2] == "20"


def test_a_writer_that_was_killed_is_not_running(root: Path, writer: int) -> None:
    unfinish(root / "models/small/R/model.json")
    os.kill(writer, 9)
    for _ in range(100):
        if works(root)["small/R", "training"].state == "interrupted":
            return
        time.sleep(0.05)
    pytest.fail("a lock that a killed process left counts as held")


def test_what_recipes_want_is_left_and_what_failed_says_why(root: Path) -> None:
    shutil.rmtree(root / "models/small/R-s2")
    shutil.rmtree(root / "results/small/R-s2")
    keep_failure(root, "small/R-s2", "the loss is no longer finite")
    more = WantedModel(name="other/B", iterations=10, attacks=("fgs", "hc1"), audit=True, cell=False)
    keep_plan(root, "other", (more, more.model_copy(update={"name": "other/C", "cell": True})), "other/B-vs-C")
    found = works(root)
    assert found["small/R-s2", "training"].state == "failed"
    assert found["small/R-s2", "training"].why == "the loss is no longer finite"
    left = {key for key, work in found.items() if work.state == "left"}
    wanted = {("other/B", what) for what in ("training", "fgs", "hc1", "audit")}
    assert left == wanted | {("other/C", "cell"), ("other/B-vs-C", "noise"), ("small/R-s2", "fgs")}


def test_a_record_that_cannot_be_read_is_a_failure(root: Path) -> None:
    (root / "results/small/R/fgs.json").write_text("{")
    work = works(root)["small/R", "fgs"]
    assert work.state == "failed"
    assert "cannot be read as JSON" in work.why


def test_the_command_counts_and_names_what_a_reader_has_to_know(root: Path) -> None:
    unfinish(root / "results/small/R-s1/fgs.json")
    keep_failure(root, "small/R-s3", "no data")
    shown = CliRunner().invoke(app, ["status", str(root)])
    assert shown.exit_code == 0
    assert [
        word for word in ("small/R-s1", "interrupted", "small/R-s3", "no data", "75 %") if word not in shown.stdout
    ] == []
    found = json.loads(CliRunner().invoke(app, ["status", str(root), "--json"]).stdout)
    assert found["counts"] == {"done": 6, "running": 0, "failed": 1, "interrupted": 1, "left": 0}
    assert Counter(work["state"] for work in found["work"]) == Counter(done=6, failed=1, interrupted=1)


def test_a_watch_ends_when_nothing_runs(root: Path) -> None:
    assert CliRunner().invoke(app, ["status", str(root), "--watch"]).exit_code == 0


def test_an_empty_root_says_how_to_begin(tmp_path: Path) -> None:
    assert "bangbench reproduce demo" in CliRunner().invoke(app, ["status", str(tmp_path)]).stdout
    with pytest.raises(BenchError, match="is no folder"):
        look(tmp_path / "nowhere")
