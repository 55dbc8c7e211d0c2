"""Damaged and hostile inputs, each opened in a process with 10 seconds of a processor and 1 GiB beyond the libraries.

python tests/fuzz/campaign.py --inputs 5000 --seed 0     prints what did not end cleanly, and how many there were
python tests/fuzz/campaign.py --inputs 0 --bombs         prints, as JSON, how each hand-made input ended

An outcome is clean if the input is taken without a word, or refused in one line with status 1 or 2, and nothing was
written beside it.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import pkgutil
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import typer
from bombs import BOMBS
from mutators import damaged
from samples import KINDS

from bangbench.attacks.registry import ATTACKS
from bangbench.cli.output import Output, ending
from bangbench.cli.streams import streams_prepared

GIBIBYTE, SECONDS = 1 << 30, 10
_HARNESS_FAILED = 70
#: Seconds that a process may take on a clock: on a busy machine its own 10 last longer.
_PATIENCE = 120
#: What may be said beside a refusal: what a folder holds besides images, and libjpeg's word on an image that it mends.
_NOTES = (": passed over ", "Corrupt JPEG data: ")


class Outcome(NamedTuple):
    """status: the exit status, negative for a signal; said: what was printed; changed: files that came or went."""

    status: int
    said: str
    changed: list[str]

    @property
    def complaint(self) -> str | None:
        """Return what is wrong with it, None where it is clean."""
        lines = [line for line in self.said.splitlines() if not any(word in line for word in _NOTES)]
        if self.status not in (0, 1, 2):
            return f"ended by signal {-self.status}" if self.status < 0 else f"status {self.status}"
        if len(lines) != (self.status != 0) or any(not line.startswith("bangbench: ") for line in lines):
            return f"status {self.status} with {len(lines)} lines"
        if "unexpected" in self.said:
            return "unexpected"
        return f"files changed: {self.changed}" if self.changed else None


def opened(read: Callable[[Path], None], folder: Path, prepare: Callable[[Path], None]) -> Outcome:
    """Prepare a folder and read it in a process of its own."""
    said = folder.with_suffix(".said")
    child = os.fork()
    if child == 0:
        status = _HARNESS_FAILED
        try:
            status = _child(read, folder, prepare, said)
        except BaseException:
            said.write_text(traceback.format_exc())
        finally:
            os._exit(status)  # nothing of the parent's may be unwound here
    status = _awaited(child)
    before = json.loads(folder.with_suffix(".before").read_text()) if status != _HARNESS_FAILED else []
    return Outcome(status, said.read_text(errors="replace"), sorted(set(_names(folder)) ^ set(before)))


def _child(read: Callable[[Path], None], folder: Path, prepare: Callable[[Path], None], said: Path) -> int:
    prepare(folder)
    folder.with_suffix(".before").write_text(json.dumps(_names(folder)))
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + GIBIBYTE, used + GIBIBYTE))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with streams_prepared(), ending(Output()):
            read(folder)
    except typer.Exit as ended:
        return ended.exit_code
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def _awaited(child: int) -> int:
    """Return how a process ended; one that takes too long is ended."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.002
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGALRM
        time.sleep(pause)
        pause = min(0.05, 1.5 * pause)


def _names(folder: Path) -> list[str]:
    return sorted(os.fsencode(path).decode(errors="backslashreplace") for path in folder.rglob("*"))


class Workshop:
    """Whole inputs, written once, to be copied and damaged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        for name, kind in KINDS.items():
            (folder / "whole" / name).mkdir(parents=True)
            kind.write(folder / "whole" / name)

    def outcome(self, name: str, prepare: Callable[[Path], None]) -> Outcome:
        """Return how the input of this kind ended, prepared in a copy of the whole one."""
        self._count += 1
        folder = self._folder / f"{self._count:06d}"
        shutil.copytree(self._folder / "whole" / name, folder)
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            return opened(KINDS[name].read, folder, prepare)
        finally:
            os.chdir(before)
            for path in (folder, folder.with_suffix(".said"), folder.with_suffix(".before")):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def fuzz(workshop: Workshop, seed: int, count: int) -> int:
    """Open `count` damaged inputs, every kind in turn; print what did not end cleanly and return how many did not."""
    names, taken = list(KINDS), 0
    failures = sum(not _taken_whole(name, workshop) for name in names)
    for number in range(count):
        name = names[number % len(names)]

        def prepare(folder: Path, number: int = number) -> None:
            generator = random.Random(f"{seed} {number}")
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            damaged(generator, generator.choice(files))

        outcome = workshop.outcome(name, prepare)
        taken += outcome.status == 0
        if (number + 1) % 500 == 0:
            print(f"{number + 1} of {count} inputs, {failures} failures", file=sys.stderr, flush=True)
        if outcome.complaint is not None:
            failures += 1
            print(f"{name}, input {number} of seed {seed}: {outcome.complaint}: {outcome.said[:400]!r}", flush=True)
    print(f"{count} inputs of seed {seed}: {failures} failures, {count - failures - taken} refused, {taken} taken")
    return failures


def explode(workshop: Workshop) -> dict[str, dict[str, Any]]:
    """Return how each bomb ended, and how it should."""
    told = {}
    for name, bomb in BOMBS.items():
        end = workshop.outcome(bomb.kind, bomb.prepare)
        told[name] = end._asdict() | {"complaint": end.complaint, "expected": bomb.said, "taken": bomb.taken}
    return told


def _taken_whole(name: str, workshop: Workshop) -> bool:
    """Return whether an input that is not damaged is taken, without which nothing else here would mean much."""
    outcome = workshop.outcome(name, lambda _: None)
    if outcome.status != 0 or outcome.said:
        print(f"{name}, not damaged: {outcome}")
    return outcome.status == 0 and not outcome.said


def _everything_loaded() -> None:
    """Import what readers import late, once for all, and keep what is there from being copied by collections."""
    import pooch  # noqa: F401  # of the cache of decoded images

    for package in (
        importlib.import_module(f"bangbench.{name}") for name in ("paper", "reporting", "training.methods")
    ):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ATTACKS.names():
        ATTACKS.load(name)
    gc.collect()
    gc.freeze()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bombs", action="store_true")
    given = parser.parse_args()
    begin = time.monotonic()
    _everything_loaded()
    # what a bomb's code would do if it were run, and what the tests train, stays here
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CONFIG_HOME"] = str(Path(folder) / "config")
        os.environ["BANGBENCH_CACHE_GB"] = "0"  # what would be decoded to the disk has to fit into memory
        workshop = Workshop(Path(folder))
        if given.bombs:
            print(json.dumps(explode(workshop)), flush=True)
        failures = fuzz(workshop, given.seed, given.inputs)
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
