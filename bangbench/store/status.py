"""What a root holds: what is done there, what is running, failed or was interrupted, and what recipes still want."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from bangbench.core.errors import BenchError
from bangbench.core.locks import Holder, lock_holder
from bangbench.store.audits import AuditRecord
from bangbench.store.cells import CellRecord
from bangbench.store.layout import AUDIT, CARD, CELL, GRID, REPORT_DOCUMENT, RESERVED
from bangbench.store.plans import Plan, WantedModel, failures, plans
from bangbench.store.records import AttackRecord, ModelCard, NoiseRecord, Record, read_record

State = Literal["done", "running", "failed", "interrupted", "left"]
STATES: tuple[State, ...] = ("done", "running", "failed", "interrupted", "left")

#: What a model's own files are called in a status.
TRAINING, CELL_WORK, NOISE = "training", "cell", "noise"

_STAGE = re.compile("[0-9]{1,12}")


class Work(NamedTuple):
    """One record that is there or wanted: whose, of what (training, an attack, noise, audit, cell), its state.

    holder: who works on it; fraction: how much of it is done, 0 to 1, where that can be told; why: it failed, or its
    file cannot be read.
    """

    name: str
    what: str
    state: State
    holder: Holder | None = None
    fraction: float | None = None
    why: str = ""


def look(root: Path) -> list[Work]:
    """Return all work under a root, sorted by name: what its records say, then what recipes want besides.

    Raises `BenchError` for a root that is no folder.
    """
    if not root.is_dir():
        raise BenchError(f"{root} is no folder; give the root that holds models/ and results/")
    found = {(work.name, work.what): work for work in [*_trained(root), *_measured(root)]}
    for plan in plans(root):
        for name, what in _wanted(plan):
            found.setdefault((name, what), Work(name, what, "left"))
    for name, note in failures(root).items():
        mine = [key for key, work in found.items() if key[0] == name and work.state in ("left", "interrupted")]
        first = mine[0] if mine else (name, TRAINING)
        if first not in found or found[first].state != "done":
            found[first] = Work(name, first[1], "failed", Holder(0, note.host, "", note.since), why=note.why)
    return sorted(found.values(), key=lambda work: (work.name, work.what != TRAINING, work.what))


def _trained(root: Path) -> Iterator[Work]:
    base = root / "models"
    for path in sorted([*base.glob(f"*/{CARD}"), *base.glob(f"*/*/{CARD}")]):
        name = path.parent.relative_to(base).as_posix()
        if not (root / "results" / name / CELL).exists():
            yield _work(root, path, name, TRAINING, ModelCard)


def _measured(root: Path) -> Iterator[Work]:
    base = root / "results"
    for path in sorted([*base.glob("*/*.json"), *base.glob("*/*/*.json")]):
        name = path.parent.relative_to(base).as_posix()
        if name.partition("/")[0] in RESERVED or name.startswith(".") or path.name in (GRID, REPORT_DOCUMENT):
            continue
        if path.name == CELL:
            yield _work(root, path, name, CELL_WORK, CellRecord)
        elif not (path.parent / CELL).exists():  # a cell's attacks are a part of it
            kinds: dict[str, type[Record]] = {AUDIT: AuditRecord, NOISE: NoiseRecord}
            yield _work(root, path, name, path.stem, kinds.get(path.stem, AttackRecord))


def _work(root: Path, path: Path, name: str, what: str, kind: type[Record]) -> Work:
    try:
        record = read_record(path, kind)
    except BenchError as error:
        return Work(name, what, "failed", why=str(error))
    if record.status == "done":
        return Work(name, what, "done", fraction=1.0)
    holder = lock_holder(path.parent)
    state: State = "interrupted" if holder is None else "running"
    return Work(name, what, state, holder, _fraction(root / "models" / name, record))


def _fraction(folder: Path, record: Record) -> float | None:
    """Return how much of a model's training is done, by its last snapshot."""
    if not isinstance(record, ModelCard | CellRecord):
        return None
    stages = [int(stage.stem) for stage in (folder / "stages").glob("*.safetensors") if _STAGE.fullmatch(stage.stem)]
    spec = record.spec.get("train", record.spec)
    total = spec.get("iterations") if isinstance(spec, dict) else None
    return min(1.0, max(stages) / total) if stages and isinstance(total, int) and total > 0 else None


def _wanted(plan: Plan) -> Iterator[tuple[str, str]]:
    for model in plan.models:
        yield from ((model.name, what) for what in _wanted_of(model))
    if plan.noise is not None:
        yield plan.noise, NOISE


def _wanted_of(model: WantedModel) -> tuple[str, ...]:
    if model.cell:
        return (CELL_WORK,)
    return (TRAINING, *model.attacks, *((AUDIT,) if model.audit else ()))
