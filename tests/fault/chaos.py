"""Commands that are killed, starved of disk, robbed of what they wrote last, doubled, or lose a worker.

python tests/fault/chaos.py --rounds 200 --seed 0     prints what did not end in the right bytes, and how many did not

Each round runs a command in a copy of a small project, disturbs it at a moment that the seed chooses, runs the same
command again in peace, and compares every table, every weight and every kept number with an uninterrupted run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bangbench.attacks.registry import ATTACKS
from bangbench.cli.main import main as bangbench_program
from bangbench.core.progress import Progress
from bangbench.nets.trust import remember_code
from bangbench.recipes import run as recipes
from bangbench.reporting import ReportSpec
from bangbench.reporting.run import ReportResult, report
from bangbench.training.methods.registry import METHODS
from bangbench.training.registry import SOLVERS

NET = """
from torch import nn


def make(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
"""
_TRAINED = (
    *("--net", "net.py:make", "--data", "npz:blobs.npz", "--iterations", "60", "--stages", "5", "--batch-size", "16"),
    *("--learning-rate", "0.1", "--device", "cpu"),
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "L", *_TRAINED, "--method", "bang"),
    "attack": (
        "attack",
        "R0",
        "--attack",
        "fgs",
        "--attack",
        "pgd",
        "--budget",
        "0.1",
        "--workers",
        "1",
        "--device",
        "cpu",
    ),
    "noise": ("noise-eval", "R0", "B1", "--sigma", "60", "--draws", "10", "--per-class", "10", "--workers", "1"),
    "audit": ("audit", "B1", "--limit", "12", "--budget", "0.1", "--strength", "quick", "--workers", "1"),
    "recipe": ("reproduce", "small.toml", "--jobs", "1", "--device", "cpu"),
    "grid": ("reproduce", "grid.toml", "--jobs", "1", "--device", "cpu"),
}
_SETTINGS = """
title = "Small models"
[train]
net = "net.py:make"
data = "npz:blobs.npz"
iterations = 20
batch_size = 16
learning_rate = 0.1
{stages}
[attack]
attack = ["fgs"]
limit = 30
"""
RECIPES = {
    "small.toml": _SETTINGS.format(stages="stages = 10")
    + """
[noise]
models = ["R0", "B1"]
sigma = [60]
draws = 2
per_class = 2
[audit]
limit = 4
budget = ["0.1"]
strength = "quick"
[[model]]
id = "R0"
method = "regular"
[[model]]
id = "B1"
method = "bang"
""",
    "grid.toml": _SETTINGS.format(stages="")
    + """
[noise_at]
sigma = 60
draws = 2
per_class = 2
[[model]]
id = "R0"
method = "regular"
[grid]
id = "b{beta}"
method = "bang"
beta = [0.5, 1.0]
""",
}
#: Who made it, when, and how long it took are not the same twice.
_NOT_KEPT = {"seconds", "since", "provenance"}
_PATIENCE = 900.0
#: Processes begun, and where what they say is heard.
_running: dict[int, tuple[int, Path]] = {}


def write_project(folder: Path) -> None:
    """Write images, a net and two trained models."""
    for name, text in {"net.py": NET, **RECIPES}.items():
        (folder / name).write_text(text)
    generator = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 90), ("test", 1100)):
        labels = np.arange(count) % 3
        images = generator.integers(0, 120, (count, 1, 8, 8))
        for image, label in zip(images, labels, strict=True):
            image[0, 2 * label : 2 * label + 2, 1:7] += 100
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels}
    np.savez(folder / "blobs.npz", **arrays)
    for name, method in (("R0", "regular"), ("B1", "bang")):
        status = ended(begun(folder, ("train", name, *_TRAINED, "--method", method)))
        if status != 0:
            raise SystemExit(f"the project cannot be made: {(folder / '.said').read_text()}")


def begun(folder: Path, command: tuple[str, ...]) -> int:
    """Begin a command in a process of its own, in which everything is imported already; return its number."""
    heard, said = os.pipe()  # not a file, which a full disk would not take
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setsid()
            os.chdir(folder)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
            remember_code("net.py:make")
            sys.argv = ["bangbench", *command, "--quiet"]
            bangbench_program()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # nothing of the parent's may be unwound here
    os.close(said)
    os.set_blocking(heard, False)
    _running[child] = heard, folder
    return child


def reaped(child: int, how: int = 0) -> bool:
    """Return whether a process has ended, and keep what it said in its folder's ``.said``; how: as of `os.waitpid`."""
    if os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT | how) is None:
        return False
    heard, folder = _running.pop(child)
    with (folder / ".said").open("ab") as file, contextlib.suppress(BlockingIOError):
        while said := os.read(heard, 1 << 16):
            file.write(said)
    os.close(heard)
    return True


def shot(child: int) -> None:
    """Kill a process and all that it began."""
    os.killpg(child, signal.SIGKILL)
    reaped(child)
    os.waitpid(child, 0)


def ended(child: int) -> int:
    """Wait for a command and return its exit status, negative for a signal."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if reaped(child, os.WNOHANG):
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.002)
    shot(child)
    raise AssertionError("a command did not end")


def kept(folder: Path) -> dict[str, Any]:
    """Return what counts of a project: weights and tables as bytes, records without times and machines."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".safetensors", ".parquet", ".npz") and path.name != "blobs.npz":
            found[name] = path.read_bytes()
        elif path.suffix == ".json":
            found[name] = _without_times(json.loads(path.read_text()))
        elif path.suffix == ".md" and " (s)" not in (table := path.read_text()):
            found[name] = table
    return found


def without_figures(spec: ReportSpec, progress: Progress) -> ReportResult:
    """Write a report's tables: what is drawn takes longer than all the rest of a recipe, and is made anew anyway."""
    return report(spec.model_copy(update={"format": ("md", "tex")}), progress)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in _NOT_KEPT}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


class Project:
    """A project, whole, and what each command makes of it in peace and how long that takes."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._count = 0
        self.whole = base / "whole"
        self.whole.mkdir()
        write_project(self.whole)
        self.results: dict[str, dict[str, Any]] = {}
        self.seconds: dict[str, float] = {}

    def left_in_peace(self, name: str) -> None:
        """Run a command that nobody disturbs, once."""
        if name in self.results:
            return
        folder, begin = self.copy(), time.monotonic()
        if ended(begun(folder, COMMANDS[name])) != 0:
            raise SystemExit(f"{name} fails in peace: {(folder / '.said').read_text()}")
        self.seconds[name] = time.monotonic() - begin
        self.results[name] = kept(folder)
        shutil.rmtree(folder)

    def copy(self) -> Path:
        """Return a new copy of the project."""
        self._count += 1
        folder = self._base / f"{self._count:04d}"
        shutil.copytree(self.whole, folder, ignore=shutil.ignore_patterns(".said"))
        return folder

    def moment(self, name: str, generator: random.Random) -> float:
        """Return a moment at which the command is probably at work, in seconds after its beginning."""
        return generator.uniform(0.0, 1.1) * self.seconds[name]


def kill(project: Project, folder: Path, name: str, generator: random.Random) -> None:
    """Kill the command, as a machine that runs out of memory does."""
    child = begun(folder, COMMANDS[name])
    time.sleep(project.moment(name, generator))
    shot(child)


def power_loss(project: Project, folder: Path, name: str, generator: random.Random) -> None:
    """Kill the command; of files that are not flushed to the disk before they get their name, a part is lost.

    The bench flushes whatever it gives a name: what can be lost is what has a temporary one, and a directory's entry.
    """
    kill(project, folder, name, generator)
    for path in folder.rglob(".*.tmp"):
        size = path.stat().st_size
        content = path.read_bytes()
        path.write_bytes(generator.choice((b"", content[: size // 2], bytes(size))))
    lost = sorted(path for path in folder.rglob(".chunks-*/*.npz"))
    if lost and generator.random() < 0.5:
        last = max(lost, key=lambda path: path.stat().st_mtime_ns)
        content = last.read_bytes()
        last.write_bytes(generator.choice((b"", content[: len(content) // 2], bytes(len(content)))))


def terminate(project: Project, folder: Path, name: str, generator: random.Random) -> None:
    """End the command as a shutdown or a scheduler does; it says so and leaves no temporary file."""
    child = begun(folder, COMMANDS[name])
    time.sleep(project.moment(name, generator))
    os.kill(child, generator.choice((signal.SIGTERM, signal.SIGINT)))
    status = ended(child)
    if status not in (0, 130, 143, -signal.SIGTERM):
        raise AssertionError(f"status {status} of a command that was asked to end")
    said = (folder / ".said").read_text()
    if "Traceback" in said or (status in (130, 143) and list(folder.rglob("*.tmp"))):
        raise AssertionError(f"left a traceback or temporary files: {said}")


def full_disk(project: Project, folder: Path, name: str, generator: random.Random) -> None:
    """Let no file grow beyond a size, as a full disk or a quota does: one line, and nothing half-written."""
    _limit(generator)
    try:
        child = begun(folder, COMMANDS[name])
    finally:
        _unlimit()
    status = ended(child)
    said = (folder / ".said").read_text()
    if "Traceback" in said or (status != 0 and said.count("bangbench: ") != 1):
        raise AssertionError(f"status {status}: {said}")
    if list(folder.rglob("*.tmp")):
        raise AssertionError("left a temporary file")


def _limit(generator: random.Random) -> None:
    import resource

    # of the soft limit alone: what is over it fails with an error once the signal is ignored, as a full disk does
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (generator.choice((0, 100, 1000, 3000, 10_000, 30_000)), most))


def _unlimit() -> None:
    import resource

    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def twice_at_once(project: Project, folder: Path, name: str, generator: random.Random) -> None:
    """Begin the same command twice: one waits for the other, or finds its work done; or the first is killed."""
    first = begun(folder, COMMANDS[name])
    time.sleep(generator.uniform(0.0, 0.5) * project.seconds[name])
    second = begun(folder, COMMANDS[name])
    killed = generator.random() < 0.5
    if killed:
        time.sleep(generator.uniform(0.0, 0.5) * project.seconds[name])
        os.killpg(first, signal.SIGKILL)
    statuses = ended(first), ended(second)
    if statuses[1] != 0 or (statuses[0] != 0 and not killed):
        raise AssertionError(f"statuses {statuses}: {(folder / '.said').read_text()}")


DISTURBANCES: tuple[Callable[[Project, Path, str, random.Random], None], ...] = (
    kill,
    power_loss,
    terminate,
    full_disk,
    twice_at_once,
)


def played(project: Project, seed: int, number: int, commands: Sequence[str]) -> str | None:
    """Play one round of one of the commands and return what is wrong with its end, None where nothing is."""
    generator = random.Random(f"{seed} {number}")
    name = generator.choice(commands)
    project.left_in_peace(name)
    disturb = DISTURBANCES[number % len(DISTURBANCES)]
    folder = project.copy()
    try:
        disturb(project, folder, name, generator)
        status = ended(begun(folder, COMMANDS[name]))
        if status != 0:
            return f"{disturb.__name__} of {name}: the next run ends with {status}: {(folder / '.said').read_text()}"
        found, expected = kept(folder), project.results[name]
        if found != expected:
            differing = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
            return f"{disturb.__name__} of {name}: other than in peace: {differing}"
        left = [path.name for path in folder.rglob("*") if path.name.startswith((".chunks", ".lock"))]
        return f"{disturb.__name__} of {name}: left {left}" if left else None
    except AssertionError as error:
        return f"{disturb.__name__} of {name}: {error}"
    finally:
        shutil.rmtree(folder)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    given = parser.parse_args()
    begin = time.monotonic()
    # what the commands import later, a process begun here has from the start
    for part in ("attacks", "auditing", "noise", "training", "recipes"):
        importlib.import_module(f"bangbench.{part}.run")
    recipes.report = without_figures
    for registry in (ATTACKS, METHODS, SOLVERS):
        for name in registry.names():
            registry.load(name)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = str(Path(folder) / "config")
        project = Project(Path(folder))
        wrong = []
        for number in range(given.rounds):
            complaint = played(project, given.seed, number, given.commands)
            if complaint is not None:
                wrong.append(complaint)
                print(f"round {number} of seed {given.seed}: {complaint}", flush=True)
            if (number + 1) % 20 == 0:
                print(f"{number + 1} of {given.rounds} rounds, {len(wrong)} failures", file=sys.stderr, flush=True)
    print(f"{given.rounds} rounds of seed {given.seed}: {len(wrong)} failures")
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
